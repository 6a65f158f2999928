// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package zlint

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	linter "github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// rules is the registry of the RFC 5280 lints only.
func rules(t *testing.T) lint.Registry {
	t.Helper()
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC5280}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(registry.Names()); n < 50 {
		t.Fatalf("zlint has only %d rules of RFC 5280", n)
	}
	return registry
}

// complaints returns the lints with a result of error or warning.
func complaints(t *testing.T, registry lint.Registry, der []byte) []string {
	t.Helper()
	certificate, err := zx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for name, result := range linter.LintCertificateEx(certificate, registry).Results {
		if result.Status >= lint.Warn {
			out = append(out, fmt.Sprintf("%s: %s %s", name, result.Status, result.Details))
		}
	}
	slices.Sort(out)
	return out
}

func uri(text string) *url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return parsed
}

// identities are certificates of every shape: each kind of name alone, all together, only the subject.
func identities() map[string]issuer.Request {
	client, server := []issuer.Usage{issuer.ClientAuth}, []issuer.Usage{issuer.ServerAuth}
	return map[string]issuer.Request{
		"a common name only":      {Names: issuer.Names{CommonName: "app"}, Usages: client},
		"no subject, a SPIFFE ID": {Names: issuer.Names{URIs: []*url.URL{uri("spiffe://example.internal/ns/web/sa/app")}}, Usages: client},
		"no subject, DNS names":   {Names: issuer.Names{DNSNames: []string{"a.example.internal", "*.example.internal"}}, Usages: server},
		"addresses":               {Names: issuer.Names{CommonName: "db", IPAddresses: []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")}}, Usages: server},
		"mail":                    {Names: issuer.Names{CommonName: "Ärger & Söhne", EmailAddresses: []string{"ops@example.com"}}, Usages: client},
		"everything, both usages": {
			Names: issuer.Names{
				CommonName: "app-server", Organizations: []string{"Example", "Beispiel"}, DNSNames: []string{"app.example.internal"},
				URIs: []*url.URL{uri("https://example.internal/app")}, IPAddresses: []net.IP{net.ParseIP("10.0.0.1")}, EmailAddresses: []string{"ops@example.com"},
			},
			Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
		},
	}
}

func newIssuer(t *testing.T, crt, key []byte) issuertest.Harness {
	t.Helper()
	authority, err := ca.Parse(crt, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.New(authority, ca.Constraints{
		CommonNames: []string{"*"}, Organizations: []string{"*"}, DNSNames: []string{"*.example.internal", "db"},
		URIs: []string{"spiffe://example.internal/*", "https://example.internal/*"}, IPRanges: []string{"10.0.0.0/8", "fd00::/8"},
		EmailDomains: []string{"example.com"}, Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuertest.Harness{Issuer: signer, Profile: issuer.Profile{Backdate: pki.Backdate}, Permit: signer.Permit, Now: now}
}

func TestCertificatesKeepRFC5280(t *testing.T) {
	registry := rules(t)
	for _, authority := range []issuer.KeyAlgorithm{issuer.ECDSAP256, issuer.ECDSAP384, issuer.RSA2048, issuer.RSA3072, issuer.Ed25519} {
		crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "Example internal CA", KeyAlgorithm: authority, Lifetime: 43800 * time.Hour}, now)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := pki.ParseCertificates(crt)
		if err != nil {
			t.Fatal(err)
		}
		if found := complaints(t, registry, roots[0].Raw); len(found) > 0 {
			t.Errorf("the managed authority with %s: %v", authority, found)
		}
		h := newIssuer(t, crt, key.Reveal())
		for name, identity := range identities() {
			for _, algorithm := range pki.KeyAlgorithms() {
				t.Run(fmt.Sprintf("%s/%s/%s", authority, algorithm, name), func(t *testing.T) {
					request := h.Request(t, algorithm, identity.Names, identity.Usages...)
					chain, err := h.Issuer.Issue(t.Context(), request)
					if err != nil {
						t.Fatal(err)
					}
					if err := pki.Lint(t.Context(), h.Candidate(t, algorithm, request, chain)); err != nil {
						t.Error(err)
					}
					certificates, err := pki.ParseCertificates(chain.Certificates)
					if err != nil {
						t.Fatal(err)
					}
					if found := complaints(t, registry, certificates[0].Raw); len(found) > 0 {
						t.Error(found)
					}
				})
			}
		}
	}
}

func TestZlintFindsBrokenRules(t *testing.T) {
	registry := rules(t)
	for name, tc := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"no subject, and a SAN that is not critical": {func(c *x509.Certificate) {
			c.Subject = pkix.Name{}
			c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: []byte{0x30, 0x04, 0x82, 0x02, 'a', 'b'}}}
		}, "e_ext_san_not_critical_without_subject"},
		"a serial number of 21 bytes": {func(c *x509.Certificate) {
			c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 20*8)
		}, "e_serial_number_longer_than_20_octets"},
	} {
		t.Run(name, func(t *testing.T) {
			sensitive := issuertest.Key(t, pki.ECDSAP256)
			key, err := pki.ParseKey(sensitive.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			der := sign(t, key, tc.change)
			if found := complaints(t, registry, der); !slices.ContainsFunc(found, func(s string) bool { return len(s) > len(tc.want) && s[:len(tc.want)] == tc.want }) {
				t.Errorf("zlint reports %v, want %s", found, tc.want)
			}
		})
	}
}

func sign(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
