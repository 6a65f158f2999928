// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// again signs another certificate for the key and name of m, under above or self-signed.
func (m member) again(tb testing.TB, above *member, change func(*x509.Certificate)) member {
	tb.Helper()
	template := *m.certificate
	template.SerialNumber = nextSerial()
	template.ExtraExtensions = nil
	if change != nil {
		change(&template)
	}
	parent, signer := &template, m.key
	if above != nil {
		parent, signer = above.certificate, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, m.key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return member{certificate: certificate, key: m.key, keyPEM: m.keyPEM}
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = now.Add(-2000*time.Hour).Truncate(time.Second), now.Add(-time.Hour).Truncate(time.Second)
}

func future(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = now.Add(time.Hour).Truncate(time.Second), now.Add(5000*time.Hour).Truncate(time.Second)
}

func lasting(hours int) func(*x509.Certificate) {
	return until(now.Add(time.Duration(hours) * time.Hour).Truncate(time.Second))
}

// withoutKeyUsage and the functions below remove extensions that crypto/x509 would write, and add others.
func withoutKeyUsage(c *x509.Certificate) { c.KeyUsage = 0 }

func loose(c *x509.Certificate) {
	c.BasicConstraintsValid = false
	c.IsCA = false
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}})
}

func withUsages(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

// family is the set of authorities that the odd files are built from.
type family struct {
	root, renewed, old, cross, crossLate, middle, low, other, twin member
	crowd                                                          []byte
}

func newFamily(tb testing.TB) family {
	tb.Helper()
	var f family
	f.old = makeAuthority(tb, "Old Root", nil, pki.ECDSAP256, expired)
	f.root = makeAuthority(tb, "Root", nil, pki.ECDSAP256, nil)
	f.renewed = f.root.again(tb, nil, lasting(900))
	f.cross = f.root.again(tb, &f.old, nil)
	f.other = makeAuthority(tb, "Other Root", nil, pki.ECDSAP384, nil)
	f.crossLate = f.root.again(tb, &f.other, lasting(100))
	f.twin = makeAuthority(tb, "Root", nil, pki.ECDSAP256, nil)
	f.middle = makeAuthority(tb, "Middle", &f.root, pki.ECDSAP256, lasting(800))
	f.low = makeAuthority(tb, "Low", &f.middle, pki.ECDSAP256, nil)
	for i := range 60 {
		f.crowd = append(f.crowd, makeAuthority(tb, fmt.Sprintf("Crowd %d", i), nil, pki.Ed25519, nil).pem()...)
	}
	return f
}

// oddFile is an unusual key pair as found in the field.
type oddFile struct {
	crt, key, anchors []byte
	// ends is how many hours the path lasts; published is how many certificates follow the leaf.
	ends, published int
	// partial is true if the anchor is not self-signed, lenient if strict peers refuse it.
	partial, lenient bool
	// note must be in the authority's notes.
	note string
}

func oddFiles(tb testing.TB) map[string]oddFile {
	tb.Helper()
	f := newFamily(tb)
	expiredRoot := f.root.again(tb, nil, expired)
	futureRoot := f.root.again(tb, nil, future)
	futureMiddle := f.middle.again(tb, &f.root, future)
	bare := makeAuthority(tb, "Bare", nil, pki.ECDSAP256, withoutKeyUsage)
	underBare := makeAuthority(tb, "Under bare", &bare, pki.ECDSAP256, nil)
	soft := makeAuthority(tb, "Soft", nil, pki.ECDSAP256, loose)
	zero := makeAuthority(tb, "Zero", &f.root, pki.ECDSAP256, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	nameless := makeAuthority(tb, "", nil, pki.ECDSAP256, func(c *x509.Certificate) { c.Subject = pkix.Name{} })
	identity := makeAuthority(tb, "leaf", &f.root, pki.ECDSAP256, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature })
	loop := f.other.again(tb, &f.root, nil)
	text := []byte("# chain of Example\n")
	mark := []byte("\xef\xbb\xbf")
	join := slices.Concat[[]byte]
	out := map[string]oddFile{
		"a new root cross-signed by an expired one":   {crt: join(f.middle.pem(), f.cross.pem()), anchors: f.root.pem(), ends: 800, published: 1},
		"the same with the expired one in tls.crt":    {crt: join(f.middle.pem(), f.cross.pem(), f.old.pem()), anchors: f.root.pem(), ends: 800, published: 1},
		"the same with the expired one in ca.crt":     {crt: join(f.middle.pem(), f.cross.pem()), anchors: join(f.old.pem(), f.root.pem()), ends: 800, published: 1},
		"an expired root beside the same key renewed": {crt: join(f.middle.pem(), expiredRoot.pem()), anchors: f.root.pem(), ends: 800, published: 1},
		"both in ca.crt":                                   {crt: f.middle.pem(), anchors: join(expiredRoot.pem(), f.root.pem()), ends: 800, published: 1},
		"both in tls.crt, no ca.crt":                       {crt: join(f.middle.pem(), expiredRoot.pem(), f.root.pem()), ends: 800, published: 1},
		"a cross-signed root that is valid":                {crt: join(f.middle.pem(), f.crossLate.pem()), anchors: f.root.pem(), ends: 800, published: 1},
		"a cross-signed root, the other root trusted":      {crt: join(f.middle.pem(), f.crossLate.pem()), anchors: f.other.pem(), ends: 100, published: 2},
		"both roots trusted":                               {crt: join(f.middle.pem(), f.crossLate.pem()), anchors: join(f.other.pem(), f.root.pem()), ends: 800, published: 1},
		"a renewed root that is not valid yet":             {crt: f.middle.pem(), anchors: join(futureRoot.pem(), f.renewed.pem()), ends: 800, published: 1},
		"a renewed intermediate that is not valid yet":     {crt: join(f.low.pem(), futureMiddle.pem(), f.middle.pem()), anchors: f.root.pem(), ends: 800, published: 2, key: f.low.keyPEM},
		"the signing root has expired, its key is trusted": {crt: expiredRoot.pem(), anchors: f.renewed.pem(), ends: 900, published: 0, key: f.root.keyPEM},
		"the chain in the wrong order":                     {crt: join(f.low.pem(), f.root.pem(), f.middle.pem()), ends: 800, published: 2, key: f.low.keyPEM},
		"the intermediate twice":                           {crt: join(f.middle.pem(), f.middle.pem(), f.root.pem()), ends: 800, published: 1},
		"an intermediate of path length 0 twice":           {crt: join(zero.pem(), zero.pem(), f.root.pem()), ends: 1000, published: 1, key: zero.keyPEM},
		"the root twice":                                   {crt: join(f.middle.pem(), f.root.pem(), f.root.pem()), anchors: join(f.root.pem(), f.root.pem()), ends: 800, published: 1},
		"others beside":                                    {crt: join(f.middle.pem(), f.other.pem(), f.old.pem()), anchors: f.root.pem(), ends: 800, published: 1},
		"sixty others in ca.crt":                           {crt: f.middle.pem(), anchors: join(f.crowd, f.root.pem()), ends: 800, published: 1},
		"an identity in ca.crt":                            {crt: f.middle.pem(), anchors: join(identity.pem(), f.root.pem()), ends: 800, published: 1, note: "1 of the 2 certificates in ca.crt are left out"},
		"the intermediate in ca.crt too":                   {crt: f.middle.pem(), anchors: join(f.middle.pem(), f.root.pem()), ends: 800, published: 1},
		"only the intermediate in ca.crt":                  {crt: f.middle.pem(), anchors: f.middle.pem(), ends: 800, published: 1, partial: true},
		"the intermediate above in ca.crt":                 {crt: f.low.pem(), anchors: join(f.middle.pem(), f.root.pem()), ends: 800, published: 2, key: f.low.keyPEM},
		"roots that sign each other":                       {crt: join(f.middle.pem(), f.crossLate.pem(), loop.pem()), anchors: join(f.root.pem(), f.other.pem()), ends: 800, published: 1},
		"text and a byte order mark around":                {crt: join(mark, text, f.middle.pem(), text, f.root.pem(), text), anchors: join(mark, f.root.pem(), text), ends: 800, published: 1},
		"Windows line ends":                                {crt: bytes.ReplaceAll(join(f.middle.pem(), f.root.pem(), text), []byte("\n"), []byte("\r\n")), ends: 800, published: 1},
		"the old label":                                    {crt: bytes.ReplaceAll(f.middle.pem(), []byte(" CERTIFICATE"), []byte(" X509 CERTIFICATE")), anchors: f.root.pem(), ends: 800, published: 1},
		"no key usage":                                     {crt: bare.pem(), key: bare.keyPEM, ends: 1000, lenient: true, note: `"CN=Bare" has no key usage`},
		"no key usage in the root":                         {crt: underBare.pem(), anchors: bare.pem(), key: underBare.keyPEM, ends: 1000, published: 1, lenient: true, note: "keyUsage"},
		"basic constraints that are not critical":          {crt: soft.pem(), key: soft.keyPEM, ends: 1000, lenient: true, note: `"CN=Soft" has basic constraints that are not critical`},
		"no subject":                                       {crt: nameless.pem(), key: nameless.keyPEM, ends: 1000, lenient: true, note: "has no subject"},
		"a key with a byte order mark":                     {crt: f.middle.pem(), anchors: f.root.pem(), key: join(mark, f.middle.keyPEM), ends: 800, published: 1},
	}
	for name, file := range out {
		if file.key == nil {
			file.key = f.middle.keyPEM
		}
		out[name] = file
	}
	usage := out["no key usage in the root"]
	usage.note = "has no key usage"
	out["no key usage in the root"] = usage
	return out
}

// What OpenSSL and Go accept as a path is one: a certificate is issued, its path alone limits how long, and both accept it
// now and at its last moment of validity.
func TestOddFilesThatPeersAcceptAreAccepted(t *testing.T) {
	for name, file := range oddFiles(t) {
		t.Run(name, func(t *testing.T) {
			authority, err := opened(file.crt, file.key, file.anchors, constraints(), now)
			if err != nil {
				t.Fatal(err)
			}
			if err := authority.Check(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			end := now.Add(time.Duration(file.ends) * time.Hour).Truncate(time.Second)
			if !authority.NotAfter.Equal(end) {
				t.Errorf("it ends at %s, want %s", authority.NotAfter, end)
			}
			notes := strings.Join(authority.Notes, " ")
			if (notes == "") != (file.note == "") || !strings.Contains(notes, file.note) {
				t.Errorf("the notes are %q, want %q", notes, file.note)
			}
			request := issuertest.Harness{Now: now}.Request(t, pki.ECDSAP256, issuer.Names{CommonName: "app-a", DNSNames: []string{"a.example.internal"}}, issuer.ClientAuth, issuer.ServerAuth)
			request.Lifetime = 720 * time.Hour
			chain, err := authority.Issue(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, chain, file, min(720, file.ends))
		})
	}
}

func judge(t *testing.T, chain issuer.Chain, file oddFile, hours int) {
	t.Helper()
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificates[0]
	last := now.Add(time.Duration(hours) * time.Hour).Truncate(time.Second)
	if len(certificates)-1 != file.published || !leaf.NotAfter.Equal(last) {
		t.Errorf("%d certificates follow the leaf, which ends at %s; want %d and %s", len(certificates)-1, leaf.NotAfter, file.published, last)
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(chain.Authorities)
	for _, certificate := range certificates[1:] {
		above.AddCert(certificate)
	}
	for _, at := range []time.Time{now, last.Add(-time.Second)} { // OpenSSL counts the last moment as expired
		for usage, extended := range map[issuer.Usage]x509.ExtKeyUsage{issuer.ClientAuth: x509.ExtKeyUsageClientAuth, issuer.ServerAuth: x509.ExtKeyUsageServerAuth} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{extended}}); err != nil {
				t.Errorf("Go refuses it as %s at %s: %v", usage, at, err)
			}
			var args []string
			if file.partial {
				args = append(args, "-partial_chain")
			}
			if !file.lenient {
				args = append(args, "-x509_strict")
			}
			if err := issuertest.OpenSSLJudge(t, chain, usage, at, args...); err != nil {
				t.Errorf("OpenSSL refuses it as %s at %s: %v", usage, at, err)
			}
			if file.lenient && issuertest.OpenSSLVerify(t, chain, usage, at, file.partial) == nil {
				t.Error("a strict peer accepts it, but the authority reports that it does not")
			}
		}
	}
}

// Without a path the authority is refused, and the message names what prevents the path.
func TestOddFilesWithoutAPathNameTheObstacle(t *testing.T) {
	f := newFamily(t)
	long := []member{f.root}
	var chain []byte
	for i := range 10 {
		long = append(long, makeAuthority(t, fmt.Sprintf("Step %d", i), &long[i], pki.ECDSAP256, nil))
		chain = append(long[i+1].pem(), chain...)
	}
	short := makeAuthority(t, "Short", nil, pki.Ed25519, nil) // 501 of it stay below 256 KiB
	coder := makeAuthority(t, "Coder", &f.root, pki.ECDSAP256, withUsages(x509.ExtKeyUsageCodeSigning))
	crl := makeAuthority(t, "CRL", &f.root, pki.ECDSAP256, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	directory := makeAuthority(t, "Directory", &f.root, pki.ECDSAP256, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 30}, Critical: true, Value: []byte{0x30, 0x17, 0xa0, 0x15, 0x30, 0x13, 0xa4, 0x11, 0x30, 0x0f, 0x31, 0x0d, 0x30, 0x0b, 6, 3, 0x55, 4, 3, 0x0c, 4, 'r', 'o', 'o', 't'}}}
	})
	for name, tc := range map[string]struct {
		crt, key, anchors []byte
		want              string
	}{
		"the root is not in ca.crt":     {slices.Concat(f.middle.pem(), f.root.pem()), f.middle.keyPEM, f.other.pem(), `ends at "CN=Root", which is not in ca.crt`},
		"another root of that name":     {f.middle.pem(), f.middle.keyPEM, f.twin.pem(), `"CN=Root" has the name of the issuer of "CN=Middle", but has not signed it`},
		"an intermediate is missing":    {f.low.pem(), f.low.keyPEM, f.root.pem(), `breaks off at "CN=Low": the certificate of its issuer, "CN=Middle", is neither in tls.crt nor in ca.crt`},
		"an empty ca.crt":               {f.middle.pem(), f.middle.keyPEM, []byte("\n"), "ca.crt is empty"},
		"too long a path":               {chain, long[10].keyPEM, f.root.pem(), "more than 10 certificates"},
		"an authority for code":         {coder.pem(), coder.keyPEM, f.root.pem(), `the extended key usage of "CN=Coder" leaves neither ClientAuth nor ServerAuth`},
		"a key usage for lists only":    {crl.pem(), crl.keyPEM, f.root.pem(), "its key usage lacks keyCertSign; sign it again, with the same key"},
		"name constraints on a folder":  {directory.pem(), directory.keyPEM, f.root.pem(), `critical name constraints of a kind that Go, which rekey and many peers verify with, does not support`},
		"the root first":                {slices.Concat(f.root.pem(), f.middle.pem()), f.middle.keyPEM, nil, `but of "CN=Middle": put that certificate first`},
		"a root that is not connected":  {slices.Concat(f.middle.pem(), f.other.pem()), f.middle.keyPEM, nil, `breaks off at "CN=Middle"`},
		"the path ends before a usage":  {f.old.pem(), f.middle.keyPEM, nil, "tls.key is not the key of the first certificate"},
		"ca.crt with more than is read": {f.middle.pem(), f.middle.keyPEM, bytes.Repeat(short.pem(), 501), "ca.crt has 501 PEM blocks; at most 500 certificates are read"},
		"ca.crt longer than is read":    {f.middle.pem(), f.middle.keyPEM, append(bytes.Repeat([]byte("#\n"), 150000), f.root.pem()...), "bytes long; at most 262144 are allowed"},
		"a ca.crt that is cut short":    {f.middle.pem(), f.middle.keyPEM, f.root.pem()[:200], "its END line is missing"},
		"a private key in ca.crt":       {f.middle.pem(), f.middle.keyPEM, slices.Concat(f.root.pem(), f.root.keyPEM), "PEM block other than a certificate at position 2, PRIVATE KEY"},
		"an anchor that may not sign":   {f.low.pem(), f.low.keyPEM, slices.Concat(f.middle.again(t, &f.root, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, 0 }).pem(), f.root.pem()), `"CN=Middle" is not an authority`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := opened(tc.crt, tc.key, tc.anchors, constraints(), now)
			wantFault(t, err, fault.AuthorityInvalid, tc.want)
		})
	}
}

// An authority with an extended key usage that excludes a usage reports that at once, and refuses only that usage.
func TestAnAuthorityForServersOnlyReportsIt(t *testing.T) {
	f := newFamily(t)
	servers := makeAuthority(t, "Servers", &f.root, pki.ECDSAP256, withUsages(x509.ExtKeyUsageServerAuth))
	authority, err := opened(servers.pem(), servers.keyPEM, f.root.pem(), constraints(), now)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{`It cannot issue certificates for ClientAuth: the extended key usage of "CN=Servers" does not include it.`}; !slices.Equal(authority.Notes, want) {
		t.Errorf("the notes are %q", authority.Notes)
	}
	names := issuer.Names{CommonName: "app-a", DNSNames: []string{"a.example.internal"}}
	if _, err := authority.Issue(t.Context(), issuertest.Harness{Now: now}.Request(t, pki.ECDSAP256, names, issuer.ServerAuth)); err != nil {
		t.Error(err)
	}
	_, err = authority.Issue(t.Context(), issuertest.Harness{Now: now}.Request(t, pki.ECDSAP256, names, issuer.ClientAuth))
	wantFault(t, err, fault.ConstraintViolated, `the extended key usage of the authority's certificate "CN=Servers" does not include it`)
	clients := constraints()
	clients.Usages = []issuer.Usage{issuer.ClientAuth}
	_, err = opened(servers.pem(), servers.keyPEM, f.root.pem(), clients, now)
	wantFault(t, err, fault.AuthorityInvalid, "includes none of constraints.usages, ClientAuth")
}
