// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

func full() pki.Identity {
	return pki.Identity{
		Names: pki.Names{
			CommonName: "app", Organizations: []string{"A", "B"}, DNSNames: []string{"a.example", "b.example"},
			URIs:        []*url.URL{{Scheme: "https", Host: "example.org", Path: "/a"}, {Scheme: "https", Host: "example.org", Path: "/b"}},
			IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.ParseIP("fd00::1")}, EmailAddresses: []string{"A@example.org", "b@example.org"},
		},
		Usages: []pki.Usage{pki.ClientAuth, pki.ServerAuth}, KeyAlgorithm: pki.Ed25519, Lifetime: time.Hour, AuthorityKeyID: []byte{1, 2},
	}
}

func TestFingerprintIgnoresOrderAndSpelling(t *testing.T) {
	want := full().Fingerprint()
	for name, change := range map[string]func(*pki.Identity){
		"order of organizations":   func(i *pki.Identity) { slices.Reverse(i.Names.Organizations) },
		"order of DNS names":       func(i *pki.Identity) { slices.Reverse(i.Names.DNSNames) },
		"order of URIs":            func(i *pki.Identity) { slices.Reverse(i.Names.URIs) },
		"order of addresses":       func(i *pki.Identity) { slices.Reverse(i.Names.IPAddresses) },
		"order of usages":          func(i *pki.Identity) { slices.Reverse(i.Usages) },
		"a DNS name twice":         func(i *pki.Identity) { i.Names.DNSNames = append(i.Names.DNSNames, "A.EXAMPLE") },
		"case of a host":           func(i *pki.Identity) { i.Names.URIs[0].Host = "Example.ORG" },
		"case of a mail domain":    func(i *pki.Identity) { i.Names.EmailAddresses[0] = "A@EXAMPLE.org" },
		"IPv4 in four bytes":       func(i *pki.Identity) { i.Names.IPAddresses[0] = i.Names.IPAddresses[0].To4() },
		"a fraction of a second":   func(i *pki.Identity) { i.Lifetime += time.Millisecond },
		"an empty list and no one": func(i *pki.Identity) { i.Names.DNSNames = append([]string{}, i.Names.DNSNames...) },
	} {
		t.Run(name, func(t *testing.T) {
			identity := full()
			change(&identity)
			if identity.Fingerprint() != want {
				t.Error("the fingerprint differs")
			}
		})
	}
}

func TestFingerprintShowsEveryField(t *testing.T) {
	seen := map[string]string{full().Fingerprint(): "nothing"}
	for name, change := range map[string]func(*pki.Identity){
		"common name":              func(i *pki.Identity) { i.Names.CommonName = "App" },
		"no common name":           func(i *pki.Identity) { i.Names.CommonName = "" },
		"organization":             func(i *pki.Identity) { i.Names.Organizations[0] = "C" },
		"two organizations as one": func(i *pki.Identity) { i.Names.Organizations = []string{"A, B"} },
		"DNS name":                 func(i *pki.Identity) { i.Names.DNSNames[0] = "c.example" },
		"DNS name as organization": func(i *pki.Identity) {
			i.Names.Organizations, i.Names.DNSNames = i.Names.DNSNames, i.Names.Organizations
		},
		"URI":                        func(i *pki.Identity) { i.Names.URIs[0].Path = "/A" },
		"address":                    func(i *pki.Identity) { i.Names.IPAddresses[0] = net.IPv4(10, 0, 0, 2) },
		"mail address":               func(i *pki.Identity) { i.Names.EmailAddresses[0] = "a@example.org" },
		"usage":                      func(i *pki.Identity) { i.Usages = i.Usages[:1] },
		"algorithm":                  func(i *pki.Identity) { i.KeyAlgorithm = pki.RSA2048 },
		"lifetime":                   func(i *pki.Identity) { i.Lifetime += time.Second },
		"authority":                  func(i *pki.Identity) { i.AuthorityKeyID[0] = 9 },
		"a boundary between two":     func(i *pki.Identity) { i.Names.DNSNames = []string{"a.exampleb.example"} },
		"an empty name among others": func(i *pki.Identity) { i.Names.DNSNames = append(i.Names.DNSNames, "") },
	} {
		identity := full()
		change(&identity)
		if other, taken := seen[identity.Fingerprint()]; taken {
			t.Errorf("changing %s and changing %s result in the same fingerprint", name, other)
		}
		seen[identity.Fingerprint()] = name
	}
}

func TestTheCertificateAloneDecidesWhetherItFits(t *testing.T) {
	root := authority(t, "root", nil, nil)
	rootEnd := root.certificate.NotAfter
	want := wanted()
	want.AuthorityKeyID = root.certificate.SubjectKeyId
	for name, tc := range map[string]struct {
		change  func(*x509.Certificate)
		wanted  func(*pki.Identity)
		ceiling time.Time
		want    []string
	}{
		"what was requested":                   {ceiling: rootEnd},
		"another name is wanted now":           {wanted: func(i *pki.Identity) { i.Names.CommonName = "app" }, ceiling: rootEnd, want: []string{"commonName is app-server, want app"}},
		"another authority key signs now":      {wanted: func(i *pki.Identity) { i.AuthorityKeyID = []byte{0xab} }, ceiling: rootEnd, want: []string{"authority key is " + hexOf(root.certificate.SubjectKeyId) + ", want ab"}},
		"a longer life is wanted now":          {wanted: func(i *pki.Identity) { i.Lifetime = 2 * time.Hour }, ceiling: rootEnd, want: []string{"lifetime is 1h0m0s, want 2h0m0s"}},
		"cut short by the chain":               {wanted: func(i *pki.Identity) { i.Lifetime = 2 * time.Hour }, ceiling: now.Add(time.Hour)},
		"cut short by the chain in a fraction": {wanted: func(i *pki.Identity) { i.Lifetime = 2 * time.Hour }, ceiling: now.Add(time.Hour + time.Millisecond)},
		"cut short by a chain that has been renewed": {
			wanted: func(i *pki.Identity) { i.Lifetime = 2 * time.Hour }, ceiling: now.Add(3 * time.Hour),
			want: []string{"lifetime is 1h0m0s, want 2h0m0s"},
		},
		"a shorter life is wanted, and it ends with the chain": {
			wanted: func(i *pki.Identity) { i.Lifetime = time.Minute }, ceiling: now.Add(time.Hour),
			want: []string{"lifetime is 1h0m0s, want 1m0s"},
		},
		"the chain has become shorter": {
			ceiling: now.Add(30 * time.Minute),
			want:    []string{"notAfter is 2027-03-01T13:00:00Z, after that of the authority, 2027-03-01T12:30:00Z"},
		},
		"two differences": {
			change: func(c *x509.Certificate) { c.DNSNames = nil; c.ExtKeyUsage = c.ExtKeyUsage[:1] }, ceiling: rootEnd,
			want: []string{"dnsNames is empty, want app.example.internal", "usages is ClientAuth, want ClientAuth, ServerAuth"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			identity := want
			if tc.wanted != nil {
				tc.wanted(&identity)
			}
			template := leafTemplate()
			if tc.change != nil {
				tc.change(template)
			}
			leaf := sign(t, template, &root, pki.ECDSAP256).certificate
			got := pki.Diff(leaf, identity, tc.ceiling)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Diff (-want +got):\n%s", diff)
			}
			if same := pki.CertificateFingerprint(leaf, identity, tc.ceiling) == identity.Fingerprint(); same != (len(got) == 0) {
				t.Errorf("the fingerprints are equal: %t; the differences: %v", same, got)
			}
		})
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}

func TestIssuedAtUndoesTheBackdating(t *testing.T) {
	root := authority(t, "root", nil, nil)
	if got := pki.IssuedAt(sign(t, leafTemplate(), &root, pki.ECDSAP256).certificate); !got.Equal(now) {
		t.Errorf("it is %s, want %s", got, now)
	}
}

func TestNamesConvertToThoseOfTheIssuerContract(t *testing.T) {
	names := issuer.Names(full().Names)
	if diff := cmp.Diff(full().Names, pki.Names(names)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseNamesRefusesAndNamesTheName(t *testing.T) {
	type names struct {
		cn                           string
		orgs, dns, uris, ips, emails []string
	}
	long := strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		names names
		want  string // empty: accepted
	}{
		"all kinds":                             {names{"Ä b", []string{"O & Co."}, []string{"*.example.internal", "xn--bcher-kva.example", "db"}, []string{"spiffe://a_b.c/x", "https://10.0.0.1:8443/x", "urn:uuid:1"}, []string{"::ffff:10.0.0.1", "fe80::1"}, []string{"o'brien+x@example.com"}}, ""},
		"nothing":                               {names{}, "neither a commonName nor a subject alternative name"},
		"only an organization":                  {names{orgs: []string{"A"}}, "neither a commonName nor a subject alternative name"},
		"a common name of 65 characters":        {names{cn: long + "a"}, "is longer than 64 characters"},
		"a common name of 64 letters in UTF-8":  {names{cn: strings.Repeat("ä", 64)}, ""},
		"a common name with a line break":       {names{cn: "a\nb"}, "cannot be printed"},
		"a common name with a zero byte":        {names{cn: "good\x00.evil"}, "cannot be printed"},
		"a common name with a space at the end": {names{cn: "a "}, "white space"},
		"a common name that is not UTF-8":       {names{cn: "a\xff"}, "cannot be printed"},
		"an empty organization":                 {names{cn: "a", orgs: []string{""}}, "organization \"\" is empty"},
		"a wildcard inside":                     {names{dns: []string{"a.*.example"}}, "\"a.*.example\" has the label \"*\""},
		"a wildcard over one label":             {names{dns: []string{"*.internal"}}, "wildcard over fewer than two labels"},
		"a partial wildcard":                    {names{dns: []string{"a*.example.internal"}}, "has the label \"a*\""},
		"an underscore":                         {names{dns: []string{"a_b.example"}}, "has the label \"a_b\""},
		"a trailing dot":                        {names{dns: []string{"a.example."}}, "label that is empty"},
		"a label of 64":                         {names{dns: []string{long + ".example"}}, "longer than 63"},
		"a name of 254":                         {names{dns: []string{strings.Repeat("a.", 126) + "aa"}}, "longer than 253"},
		"a hyphen at the end":                   {names{dns: []string{"a-.example"}}, "hyphen"},
		"a letter beyond ASCII":                 {names{dns: []string{"bücher.example"}}, "other than letters"},
		"an address among the DNS names":        {names{dns: []string{"10.0.0.1"}}, "list it under ipAddresses"},
		"no address":                            {names{ips: []string{"10.0.0.256"}}, "\"10.0.0.256\" is not an IP address"},
		"an address with a zone":                {names{ips: []string{"fe80::1%eth0"}}, "is not an IP address"},
		"a network":                             {names{ips: []string{"10.0.0.0/8"}}, "is not an IP address"},
		"a relative URI":                        {names{uris: []string{"/a/b"}}, "is not absolute"},
		"no URI":                                {names{uris: []string{"http://[::1"}}, "cannot be parsed"},
		"a URI with a password":                 {names{uris: []string{"https://a:hunter2@example.org/"}}, "has a user name or a password in it"},
		"a URI with dots":                       {names{uris: []string{"https://example.org/a/../b"}}, "path segment \"..\""},
		"a URI with escaped dots":               {names{uris: []string{"https://example.org/a/%2e%2e/b"}}, "escaped character in its path"},
		"a URI with a wildcard host":            {names{uris: []string{"https://*.example.org/a"}}, "wildcard in its host"},
		"a URI with a bad host":                 {names{uris: []string{"https://exa$mple.org/a"}}, "its host has the label"},
		"a URI beyond ASCII":                    {names{uris: []string{"https://example.org/?ü"}}, "outside of printable ASCII"},
		"a URI that is too long":                {names{uris: []string{"https://example.org/" + strings.Repeat("a", 2048)}}, "is longer than 2048"},
		"no mail domain":                        {names{emails: []string{"ops"}}, "name@domain"},
		"a mail address with a space":           {names{emails: []string{"a b@example.com"}}, "needs quoting"},
		"a mail address with two dots":          {names{emails: []string{"a..b@example.com"}}, "empty part before the @"},
		"a mail address with a wildcard":        {names{emails: []string{"a@*.example.com"}}, "wildcard in its domain"},
		"a mail address with two at signs":      {names{emails: []string{"a@b@example.com"}}, "has the label \"b@example\""},
		"too many names":                        {names{dns: slices.Repeat([]string{"a.example"}, 151)}, "151 names are requested"},
	} {
		t.Run(name, func(t *testing.T) {
			n := tc.names
			_, err := pki.ParseNames(n.cn, n.orgs, n.dns, n.uris, n.ips, n.emails)
			if tc.want == "" {
				if err != nil {
					t.Errorf("it is refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error is %q, want %q in it", err, tc.want)
			}
			if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.IdentityInvalid {
				t.Errorf("it is %s with the reason %s", fault.Classify(err), fault.ReasonOf(err, ""))
			}
		})
	}
}
