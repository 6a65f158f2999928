// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

func wantFault(t *testing.T, err error, reason fault.Reason, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != reason {
		t.Errorf("it is %s with the reason %s, want Permanent, %s", fault.Classify(err), fault.ReasonOf(err, ""), reason)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %q, want %q in it", err, text)
	}
}

func TestParseRefusesWhatCannotSign(t *testing.T) {
	root := makeAuthority(t, "root", nil, pki.ECDSAP256, nil)
	short := makeAuthority(t, "root", nil, pki.Ed25519, nil)
	twin := makeAuthority(t, "root", nil, pki.ECDSAP256, nil)
	middle := makeAuthority(t, "middle", &root, pki.ECDSAP256, nil)
	low := makeAuthority(t, "low", &middle, pki.ECDSAP256, nil)
	leafOnly := makeAuthority(t, "leaf", &root, pki.ECDSAP256, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 })
	noSign := makeAuthority(t, "no sign", &root, pki.ECDSAP256, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	odd := makeAuthority(t, "odd", nil, pki.ECDSAP256, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	})
	zero := makeAuthority(t, "zero", nil, pki.ECDSAP256, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	underZero := makeAuthority(t, "under zero", &zero, pki.ECDSAP256, nil)
	broken := slices.Clone(root.certificate.Raw)
	broken[len(broken)-1] ^= 1
	for name, tc := range map[string]struct {
		crt, key, anchors []byte
		want              string
	}{
		"no certificate":                     {nil, root.keyPEM, nil, "tls.crt is empty"},
		"no key":                             {root.pem(), nil, nil, "tls.key: the private key is empty"},
		"the key of another":                 {root.pem(), twin.keyPEM, nil, "tls.key is not the key of the first certificate"},
		"an identity":                        {leafOnly.pem(), leafOnly.keyPEM, nil, "lack CA:TRUE"},
		"no right to sign":                   {noSign.pem(), noSign.keyPEM, nil, "lacks keyCertSign"},
		"an unknown critical extension":      {odd.pem(), odd.keyPEM, nil, "critical extensions that Go, which rekey and many peers verify with, does not support: [1.2.3]"},
		"the root first":                     {slices.Concat(root.pem(), middle.pem()), middle.keyPEM, nil, "tls.key is not the key of the first certificate"},
		"a gap in the chain":                 {slices.Concat(low.pem(), root.pem()), low.keyPEM, nil, "breaks off at \"CN=low\": the certificate of its issuer, \"CN=middle\", is neither"},
		"a gap below ca.crt":                 {low.pem(), low.keyPEM, root.pem(), "breaks off at \"CN=low\""},
		"a root with the right name only":    {slices.Concat(middle.pem(), twin.pem()), middle.keyPEM, nil, "\"CN=root\" has the name of the issuer of \"CN=middle\", but has not signed it"},
		"too long a path":                    {slices.Concat(underZero.pem(), zero.pem()), underZero.keyPEM, nil, "has the path length 0, which does not allow 1"},
		"a damaged root":                     {encode(broken), root.keyPEM, nil, "the root \"CN=root\" is damaged"},
		"too many certificates":              {bytes.Repeat(short.pem(), 501), short.keyPEM, nil, "tls.crt has 501 PEM blocks; at most 500 certificates are read"},
		"anchors that are not certificates":  {middle.pem(), middle.keyPEM, []byte("hunter2"), "ca.crt holds no PEM block"},
		"another authority's anchors":        {middle.pem(), middle.keyPEM, twin.pem(), "\"CN=root\" has the name of the issuer of \"CN=middle\", but has not signed it"},
		"only an identity as anchor":         {middle.pem(), middle.keyPEM, leafOnly.pem(), "breaks off at \"CN=middle\""},
		"another root as anchor of this one": {root.pem(), root.keyPEM, twin.pem(), "the path from tls.crt ends at \"CN=root\", which is not in ca.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.Parse(tc.crt, tc.key, tc.anchors)
			wantFault(t, err, fault.AuthorityInvalid, tc.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows what is in the Secret")
			}
		})
	}
}

func encode(der []byte) []byte {
	return pki.EncodeCertificates(&x509.Certificate{Raw: der})
}

func TestTheFilesOfAnAuthorityThatArePublished(t *testing.T) {
	for name, s := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			h := harness(t, s)
			request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
			chain, err := h.Issuer.Issue(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			certificates, err := pki.ParseCertificates(chain.Certificates)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(certificates) - 1; got != s.published {
				t.Errorf("%d certificates follow the leaf, want %d", got, s.published)
			}
			for _, certificate := range certificates {
				if bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
					t.Error("the root is in tls.crt")
				}
			}
			if len(s.anchors) > 0 && !bytes.Equal(chain.Authorities, s.anchors) {
				t.Error("ca.crt is not that of the Secret")
			}
			authority, err := ca.Parse(s.crt, s.key, s.anchors)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(authority.Info(now).Anchors, chain.Authorities) {
				t.Error("Info does not show the published anchors")
			}
		})
	}
}

func TestInfoIsWhatAStatusShows(t *testing.T) {
	root := makeAuthority(t, "root", nil, pki.ECDSAP256, until(now.Add(10*time.Hour).Truncate(time.Second)))
	middle := makeAuthority(t, "middle", &root, pki.ECDSAP256, nil)
	authority, err := ca.Parse(slices.Concat(middle.pem(), root.pem()), middle.keyPEM, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := ca.Info{
		SHA256: pki.SHA256(middle.certificate), Subject: "CN=middle",
		NotBefore: middle.certificate.NotBefore, NotAfter: middle.certificate.NotAfter, ChainNotAfter: root.certificate.NotAfter,
		KeyID: middle.certificate.SubjectKeyId, Anchors: root.pem(),
	}
	if diff := cmp.Diff(want, authority.Info(now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckCoversEveryCertificateOfTheChain(t *testing.T) {
	root := makeAuthority(t, "root", nil, pki.ECDSAP256, until(now.Add(10*time.Hour).Truncate(time.Second)))
	middle := makeAuthority(t, "middle", &root, pki.ECDSAP256, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour).Truncate(time.Second) })
	authority, err := ca.Parse(slices.Concat(middle.pem(), root.pem()), middle.keyPEM, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := middle.certificate.NotBefore, root.certificate.NotAfter
	for name, tc := range map[string]struct {
		at   time.Time
		want fault.Reason
		text string
	}{
		"a second too early":       {begin.Add(-time.Second), fault.AuthorityInvalid, "\"CN=middle\" is not valid before 2027-03-01T13:00:00Z; check the clocks"},
		"at the first instant":     {begin, "", ""},
		"a minute before the end":  {end.Add(-time.Minute), "", ""},
		"less than a minute":       {end.Add(-59 * time.Second), fault.AuthorityExpired, "\"CN=root\" expires at 2027-03-01T22:00:00Z; renew the authority"},
		"a second after the end":   {end.Add(time.Second), fault.AuthorityExpired, "\"CN=root\" has expired at 2027-03-01T22:00:00Z"},
		"a century after that":     {end.AddDate(100, 0, 0), fault.AuthorityExpired, "has expired"},
		"an instant without a day": {time.Time{}, fault.AuthorityInvalid, "not valid before"},
	} {
		t.Run(name, func(t *testing.T) {
			err := authority.Check(tc.at)
			if tc.want == "" {
				if err != nil {
					t.Errorf("it cannot sign: %v", err)
				}
				return
			}
			wantFault(t, err, tc.want, tc.text)
		})
	}
	for name, at := range map[string]time.Time{"too early": begin.Add(-time.Hour), "after the end": end.Add(time.Hour)} {
		first, later := authority.Check(at), authority.Check(at.Add(30*time.Second))
		if first == nil || later == nil || first.Error() != later.Error() {
			t.Errorf("%s, the message changes from one reconcile to the next, and is written each time: %v, then %v", name, first, later)
		}
	}
}

func TestManagedAuthorityIsAProperRoot(t *testing.T) {
	serials := map[string]bool{}
	for _, algorithm := range []issuer.KeyAlgorithm{issuer.ECDSAP256, issuer.ECDSAP384, issuer.RSA2048, issuer.Ed25519} {
		t.Run(string(algorithm), func(t *testing.T) {
			crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "Example internal CA", KeyAlgorithm: algorithm, Lifetime: 43800 * time.Hour}, now)
			if err != nil {
				t.Fatal(err)
			}
			certificates, err := pki.ParseCertificates(crt)
			if err != nil || len(certificates) != 1 {
				t.Fatalf("%d certificates, %v", len(certificates), err)
			}
			root := certificates[0]
			start := now.Truncate(time.Second)
			if !root.NotBefore.Equal(start.Add(-5*time.Minute)) || !root.NotAfter.Equal(start.Add(43800*time.Hour)) {
				t.Errorf("it lives from %s to %s", root.NotBefore, root.NotAfter)
			}
			if !root.IsCA || root.MaxPathLen != 0 || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(root.ExtKeyUsage) > 0 {
				t.Errorf("it may do more than sign leaves: %+v", root.KeyUsage)
			}
			if root.SerialNumber.BitLen() != 128 || len(root.SubjectKeyId) != 20 || !bytes.Equal(root.SubjectKeyId, root.AuthorityKeyId) {
				t.Errorf("serial number of %d bits, key identifiers %x and %x", root.SerialNumber.BitLen(), root.SubjectKeyId, root.AuthorityKeyId)
			}
			if got := string(pki.AlgorithmOf(root.PublicKey)); got != string(algorithm) {
				t.Errorf("its key is %s", got)
			}
			if _, err := ca.Parse(crt, key.Reveal(), nil); err != nil {
				t.Errorf("it cannot be read back: %v", err)
			}
			serials[root.SerialNumber.String()] = true
		})
	}
	if len(serials) != 4 {
		t.Errorf("four authorities have %d serial numbers", len(serials))
	}
}

func TestManagedAuthorityRefusesABadSpec(t *testing.T) {
	good := ca.Root{CommonName: "CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: time.Hour}
	for name, tc := range map[string]struct {
		change func(*ca.Root)
		want   string
	}{
		"no name":              {func(r *ca.Root) { r.CommonName = "" }, "neither a commonName"},
		"a name too long":      {func(r *ca.Root) { r.CommonName = strings.Repeat("a", 65) }, "longer than 64"},
		"an unknown algorithm": {func(r *ca.Root) { r.KeyAlgorithm = "DSA" }, "unknown key algorithm \"DSA\""},
		"no lifetime":          {func(r *ca.Root) { r.Lifetime = 0 }, "lifetime 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			root := good
			tc.change(&root)
			_, _, err := ca.NewSelfSigned(root, now)
			wantFault(t, err, fault.AuthorityInvalid, tc.want)
		})
	}
}

func TestLeavesHaveTheRightExtensions(t *testing.T) {
	h := harness(t, shapes(t)["managed, ECDSA-P256"])
	nameless := h.Client
	nameless.CommonName, nameless.Organizations = "", nil
	for name, tc := range map[string]struct {
		names     issuer.Names
		algorithm pki.KeyAlgorithm
		usages    []issuer.Usage
		critical  bool
		keyUsage  x509.KeyUsage
		extended  []x509.ExtKeyUsage
	}{
		"a client":                     {h.Client, pki.ECDSAP256, []issuer.Usage{issuer.ClientAuth}, false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"a client with an RSA key":     {h.Client, pki.RSA2048, []issuer.Usage{issuer.ClientAuth}, false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		"a server with an RSA key":     {h.Server, pki.RSA2048, []issuer.Usage{issuer.ServerAuth}, false, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"both, asked for twice":        {h.Server, pki.Ed25519, []issuer.Usage{issuer.ServerAuth, issuer.ClientAuth, issuer.ServerAuth}, false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		"a client without any subject": {nameless, pki.ECDSAP256, []issuer.Usage{issuer.ClientAuth}, true, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		t.Run(name, func(t *testing.T) {
			chain, err := h.Issuer.Issue(t.Context(), h.Request(t, tc.algorithm, tc.names, tc.usages...))
			if err != nil {
				t.Fatal(err)
			}
			certificates, err := pki.ParseCertificates(chain.Certificates)
			if err != nil {
				t.Fatal(err)
			}
			leaf := certificates[0]
			if leaf.KeyUsage != tc.keyUsage || !slices.Equal(leaf.ExtKeyUsage, tc.extended) {
				t.Errorf("its usages are %b and %v", leaf.KeyUsage, leaf.ExtKeyUsage)
			}
			if leaf.SerialNumber.BitLen() != 128 {
				t.Errorf("its serial number has %d bits", leaf.SerialNumber.BitLen())
			}
			if leaf.IsCA || !leaf.BasicConstraintsValid {
				t.Error("it is an authority, or lacks basic constraints")
			}
			id, err := pki.SubjectKeyID(leaf.PublicKey)
			if err != nil || !bytes.Equal(leaf.SubjectKeyId, id) {
				t.Errorf("its subject key identifier is %s, want %s (%v)", hex.EncodeToString(leaf.SubjectKeyId), hex.EncodeToString(id), err)
			}
			for _, extension := range leaf.Extensions {
				if extension.Id.String() == "2.5.29.17" && extension.Critical != tc.critical {
					t.Errorf("its alternative names are critical: %t", extension.Critical)
				}
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	for _, algorithm := range []issuer.KeyAlgorithm{issuer.ECDSAP256, issuer.RSA2048, issuer.Ed25519} {
		b.Run("authority with "+string(algorithm), func(b *testing.B) {
			crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "CA", KeyAlgorithm: algorithm, Lifetime: 1000 * time.Hour}, now)
			if err != nil {
				b.Fatal(err)
			}
			authority, err := ca.Parse(crt, key.Reveal(), nil)
			if err != nil {
				b.Fatal(err)
			}
			signer, err := ca.New(authority, constraints())
			if err != nil {
				b.Fatal(err)
			}
			h := issuertest.Harness{Issuer: signer, Profile: issuer.Profile{Backdate: pki.Backdate}, Now: now}
			request := h.Request(b, pki.ECDSAP256, issuer.Names{CommonName: "app-a", DNSNames: []string{"a.example.internal"}}, issuer.ClientAuth)
			for b.Loop() {
				if _, err := signer.Issue(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
