// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// forgedNames are common names in which some client finds the host, one for each way of writing it.
func forgedNames(host string) map[string]string {
	out := map[string]string{"as it is": host, "in capitals": strings.ToUpper(host), "with a dot behind": host + ".", "in brackets": "[" + host + "]"}
	first, rest, dotted := strings.Cut(host, ".")
	if dotted {
		out["a wildcard"] = "*." + rest
		out["a wildcard and the first letter"] = first[:1] + "*." + rest
		out["a wildcard and the last letter"] = "*" + first[len(first)-1:] + "." + rest
		out["a wildcard in the middle"] = first[:1] + "*" + first[len(first)-1:] + "." + rest
		out["the dots of Asia"] = strings.ReplaceAll(host, ".", "\u3002")
		out["the wide dots"] = strings.ReplaceAll(host, ".", "\uff0e")
	}
	wide := strings.Map(func(r rune) rune {
		if r > ' ' && r <= '~' && r != '.' {
			return r - '!' + '\uff01'
		}
		return r
	}, host)
	out["wide letters"] = wide
	out["a soft hyphen in it"] = host[:1] + "\u00ad" + host[1:]
	return out
}

// signedServer issues a server certificate with that common name in addition to other names.
func signedServer(t *testing.T, authority *ca.Authority, c ca.Constraints, names issuer.Names) (issuer.Chain, error) {
	t.Helper()
	signer, err := ca.New(authority, c)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(clientKey(t), pki.Names{CommonName: "other"})
	if err != nil {
		t.Fatal(err)
	}
	return signer.Issue(t.Context(), issuer.Request{ID: t.Name(), CSR: csr, Names: names, Usages: c.Usages, Lifetime: time.Hour, Now: now})
}

// Whatever the common name is, no signed certificate is valid for a host outside the constraints. An authority that leaves
// the two to the common name shows that OpenSSL would find it.
func TestNoCommonNameMakesACertificateOfAHostThatIsNotAllowed(t *testing.T) {
	authority := managed(t)
	usages := []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth}
	c := ca.Constraints{CommonNames: []string{"*"}, DNSNames: []string{"*.example.internal"}, IPRanges: []string{"10.0.0.0/8"},
		URIs: []string{"spiffe://example.internal/*"}, EmailDomains: []string{"example.com"}, Usages: usages}
	beside := map[string]issuer.Names{
		"a URI":          {URIs: uris("spiffe://example.internal/app")},
		"an address":     {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"a mail address": {EmailAddresses: []string{"app@example.com"}},
		"a DNS name":     {DNSNames: []string{"app.example.internal"}},
	}
	tried, refusals, fooled := 0, 0, 0
	for _, host := range []string{"www.bank.example", "bank", "my_bank", "192.0.2.7", "2001:db8::7", "127.1", "2130706433", "0x7f000001", "a.b.c.example.internal"} {
		for form, cn := range forgedNames(host) {
			for kind, names := range beside {
				names.CommonName = cn
				tried++
				chain, err := signedServer(t, authority, c, names)
				if err != nil {
					if reason := fault.ReasonOf(err, ""); reason != fault.ConstraintViolated && reason != fault.IdentityInvalid {
						t.Errorf("%s (%s) beside %s is refused for another reason: %v", cn, form, kind, err)
					}
					refusals++
					continue
				}
				if kind == "a DNS name" && net.ParseIP(host) == nil {
					continue // no client reads its common name
				}
				if issuertest.OpenSSLJudge(t, chain, issuer.ServerAuth, now, "-verify_hostname", host) == nil {
					t.Errorf("%s (%s) beside %s was signed, and is the certificate of %s to OpenSSL", cn, form, kind, host)
				}
			}
		}
	}
	open := c
	open.DNSNames, open.IPRanges = []string{"*", "*.*", "*.*.*"}, []string{"0.0.0.0/0", "::/0"}
	for _, cn := range []string{"www.bank.example", "w*.bank.example", "*.bank.example", "bank"} {
		chain, err := signedServer(t, authority, open, issuer.Names{CommonName: cn, URIs: uris("spiffe://example.internal/app")})
		if err != nil {
			t.Errorf("%s is refused although everything is allowed: %v", cn, err)
			continue
		}
		for _, host := range []string{"www.bank.example", "bank"} {
			if issuertest.OpenSSLJudge(t, chain, issuer.ServerAuth, now, "-verify_hostname", host) == nil {
				fooled++
			}
		}
	}
	if fooled < 4 {
		t.Errorf("OpenSSL took %d certificates by their common name; the test shows nothing", fooled)
	}
	t.Logf("%d common names were tried, %d were refused", tried, refusals)
}

func TestACommonNameThatIsNotAHostIsNotChecked(t *testing.T) {
	authority := managed(t)
	c := ca.Constraints{CommonNames: []string{"*"}, DNSNames: []string{"*.example.internal", "db"}, IPRanges: []string{"10.0.0.0/8"},
		URIs: []string{"spiffe://example.internal/*"}, Usages: []issuer.Usage{issuer.ServerAuth}}
	for name, tc := range map[string]struct {
		cn   string
		want bool
	}{
		"words":                               {"Orders server", true},
		"words with letters of other scripts": {"Der Bänker", true},
		"a host that is allowed":              {"a.example.internal", true},
		"the same with a dot behind":          {"a.example.internal.", true},
		"a label that is allowed":             {"db", true},
		"a wildcard that is allowed":          {"*.example.internal", true},
		"an address that is allowed":          {"10.9.8.7", true},
		"another address":                     {"11.9.8.7", false},
		"a part of an address":                {"*.0.0.1", false},
		"a URI":                               {"urn:bank", false},
		"words with a dot":                    {"Orders v1.2", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signedServer(t, authority, c, issuer.Names{CommonName: tc.cn, URIs: uris("spiffe://example.internal/app")})
			if (err == nil) != tc.want {
				t.Errorf("%q: %v", tc.cn, err)
			}
		})
	}
}
