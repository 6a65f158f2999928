// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// directoryConstraint returns a non-critical extension with one permitted or excluded directory name.
func directoryConstraint(t *testing.T, tag int, name pkix.Name) pkix.Extension {
	t.Helper()
	wrap := func(class, tag int, content []byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: content})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sequence, err := asn1.Marshal(name.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	subtree := wrap(asn1.ClassUniversal, asn1.TagSequence, wrap(asn1.ClassContextSpecific, 4, sequence))
	return pkix.Extension{Id: []int{2, 5, 29, 30}, Value: wrap(asn1.ClassUniversal, asn1.TagSequence, wrap(asn1.ClassContextSpecific, tag, subtree))}
}

// What an authority's name constraints do not permit is not published, as OpenSSL and Go read them, and what both permit is.
// Every kind of name is tested with every kind of constraint, critical and not.
func TestNameConstraintsHoldAsOpenSSLReadsThem(t *testing.T) {
	root := makeAuthority(t, "Root", nil, pki.ECDSAP256, nil)
	_, network, err := net.ParseCIDR("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	authorities := map[string]func(*x509.Certificate){
		"permitted DNS":                   func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.internal"} },
		"permitted DNS with a dot":        func(c *x509.Certificate) { c.PermittedDNSDomains = []string{".example.internal"} },
		"excluded DNS":                    func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"bank.example"} },
		"permitted URIs":                  func(c *x509.Certificate) { c.PermittedURIDomains = []string{"example.internal"} },
		"permitted URIs below":            func(c *x509.Certificate) { c.PermittedURIDomains = []string{".example.internal"} },
		"excluded URIs":                   func(c *x509.Certificate) { c.ExcludedURIDomains = []string{"bank.example"} },
		"permitted email addresses":       func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} },
		"permitted email addresses below": func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{".example.com"} },
		"one email address":               func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"ops@example.com"} },
		"permitted addresses":             func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{network} },
		"excluded addresses":              func(c *x509.Certificate) { c.ExcludedIPRanges = []*net.IPNet{network} },
		"a permitted directory name": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{directoryConstraint(t, 0, pkix.Name{Organization: []string{"Example"}})}
		},
		"an excluded directory name": func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{directoryConstraint(t, 1, pkix.Name{Organization: []string{"Example"}})}
		},
	}
	identities := map[string]issuer.Names{
		"a word":                    {CommonName: "app"},
		"a host":                    {CommonName: "app.example.internal"},
		"a host outside":            {CommonName: "app.bank.example"},
		"a host with DNS":           {CommonName: "app.bank.example", DNSNames: []string{"a.example.internal"}},
		"the domain itself":         {DNSNames: []string{"example.internal"}},
		"a DNS name outside":        {DNSNames: []string{"www.bank.example"}},
		"a URI":                     {URIs: uris("spiffe://example.internal/app")},
		"a URI below":               {URIs: uris("spiffe://sub.example.internal/app")},
		"a URI outside":             {URIs: uris("spiffe://bank.example/app")},
		"an email address":          {EmailAddresses: []string{"ops@example.com"}},
		"an email address below":    {EmailAddresses: []string{"ops@sub.example.com"}},
		"an address":                {IPAddresses: []net.IP{net.IPv4(10, 1, 2, 3)}},
		"an address outside":        {IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}},
		"an organization":           {CommonName: "app", Organizations: []string{"Example"}},
		"an organization, in lower": {CommonName: "app", Organizations: []string{"example"}},
		"another organization":      {CommonName: "app", Organizations: []string{"Bank"}},
		"only an address":           {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, URIs: uris("spiffe://example.internal/x")},
	}
	open := ca.Constraints{CommonNames: []string{"*"}, Organizations: []string{"*"}, DNSNames: []string{"*.*", "*.*.*"}, IPRanges: []string{"0.0.0.0/0"},
		EmailDomains: []string{"example.com", "sub.example.com"}, Usages: []issuer.Usage{issuer.ClientAuth},
		URIs: []string{"spiffe://example.internal/*", "spiffe://sub.example.internal/*", "spiffe://bank.example/*"}}
	published, refusals := 0, 0
	for kind, change := range authorities {
		for _, critical := range []bool{false, true} {
			if critical && strings.Contains(kind, "directory") {
				continue // refused as an authority: TestOddFilesWithoutAPathNameTheObstacle
			}
			signing := makeAuthority(t, "Issuing CA", &root, pki.ECDSAP256, func(c *x509.Certificate) {
				change(c)
				c.PermittedDNSDomainsCritical = critical
			})
			authority, err := opened(signing.pem(), signing.keyPEM, root.pem(), open, now)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			for what, names := range identities {
				key := clientKey(t)
				csr, err := pki.NewRequest(key, pki.Names(names))
				if err != nil {
					t.Fatal(err)
				}
				chain, err := authority.Issue(t.Context(), issuer.Request{ID: "1", CSR: csr, Names: names, Usages: open.Usages, Lifetime: time.Hour, Now: now})
				if err != nil {
					t.Fatalf("%s, %s: %v", kind, what, err)
				}
				lint := pki.Lint(t.Context(), pki.Candidate{
					Material: credential.Material{credential.KeyPrivateKey: key, credential.KeyCertificate: credential.NewSensitive(chain.Certificates), credential.KeyAuthority: credential.NewSensitive(chain.Authorities)},
					Identity: pki.Identity{Names: pki.Names(names), Usages: []pki.Usage{pki.ClientAuth}, KeyAlgorithm: pki.ECDSAP256, Lifetime: time.Hour, Habits: pki.Habits{Backdate: pki.Backdate}},
					Now:      now,
				})
				judged := issuertest.OpenSSLVerify(t, chain, issuer.ClientAuth, now, false)
				if lint == nil && judged != nil {
					t.Errorf("%s, %s: published, and OpenSSL refuses it: %v", kind, what, judged)
				}
				if lint != nil && judged == nil && verifiesInGo(t, chain) {
					t.Errorf("%s, %s: both accept it, and it is not published: %v", kind, what, lint)
				}
				if lint == nil {
					published++
				} else {
					refusals++
				}
			}
		}
	}
	t.Logf("%d were published, %d refused", published, refusals)
}

func verifiesInGo(t *testing.T, chain issuer.Chain) bool {
	t.Helper()
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(chain.Authorities)
	for _, certificate := range certificates[1:] {
		above.AddCert(certificate)
	}
	_, err = certificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}
