// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// TestThePathIsOneThatPermitsTheIdentity has two paths for one key: the one that lasts longer, and is preferred otherwise,
// does not permit the identity. For each kind of restriction, at each place of that path, as a client and as a server: the
// other path is published, Go and OpenSSL accept it, and the published Secret is read back with that path.
func TestThePathIsOneThatPermitsTheIdentity(t *testing.T) {
	_, network, err := net.ParseCIDR("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	names := issuer.Names{CommonName: "api.bank.example", Organizations: []string{"Bank"}, DNSNames: []string{"api.bank.example", "*.pay.bank.example"},
		IPAddresses: []net.IP{net.IPv4(10, 1, 2, 3)}, URIs: uris("spiffe://bank.example/api"), EmailAddresses: []string{"ops@bank.example"}}
	hostAlone := issuer.Names{CommonName: "api.bank.example", URIs: names.URIs}
	for what, tc := range map[string]struct {
		names  issuer.Names
		change func(*x509.Certificate)
	}{
		"other DNS names":                 {names, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.internal"} }},
		"the DNS name excluded":           {names, func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"bank.example"} }},
		"a name of the wildcard excluded": {names, func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"eu.pay.bank.example"} }},
		"other addresses":                 {names, func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{network} }},
		"other URIs":                      {names, func(c *x509.Certificate) { c.PermittedURIDomains = []string{"example.internal"} }},
		"URIs below, as OpenSSL reads it": {names, func(c *x509.Certificate) { c.PermittedURIDomains = []string{"example"} }},
		"the URI excluded":                {names, func(c *x509.Certificate) { c.ExcludedURIDomains = []string{"bank.example"} }},
		"other email addresses":           {names, func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} }},
		"one other email address":         {names, func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"dev@bank.example"} }},
		"the email address excluded":      {names, func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"ops@bank.example"} }},
		"a host as common name":           {hostAlone, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.internal"} }},
		"another organization": {names, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{directoryConstraint(t, 0, pkix.Name{Organization: []string{"Example"}})}
		}},
	} {
		for place := range 3 {
			for _, usage := range []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth} {
				t.Run(fmt.Sprintf("%s, certificate %d, %s", what, place+1, usage), func(t *testing.T) {
					wantAnchor(t, crossed{place: place, onA: tc.change}.published(t, tc.names, usage), "Root B")
				})
			}
		}
	}
}

// TestThePathIsOneThatPermitsTheUsage does the same with two paths that each allow one usage.
func TestThePathIsOneThatPermitsTheUsage(t *testing.T) {
	file := crossed{place: 1, onA: withUsages(x509.ExtKeyUsageClientAuth), onB: withUsages(x509.ExtKeyUsageServerAuth)}
	for usage, want := range map[issuer.Usage]string{issuer.ClientAuth: "Root A", issuer.ServerAuth: "Root B"} {
		wantAnchor(t, file.published(t, issuer.Names{DNSNames: []string{"api.bank.example"}}, usage), want)
	}
}

// TestNamesThatNoPathPermitsAreRefusedWithTheConstraints expects the same refusal as with one path; if both permit the names, the better
// path is kept.
func TestNamesThatNoPathPermitsAreRefusedWithTheConstraints(t *testing.T) {
	limit := func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.internal"} }
	file := crossed{onA: limit, onB: limit}
	wantAnchor(t, file.published(t, issuer.Names{DNSNames: []string{"api.example.internal"}}, issuer.ServerAuth), "Root A")
	candidate, _ := file.issue(t, issuer.Names{DNSNames: []string{"api.bank.example"}}, issuer.ServerAuth)
	wantFault(t, pki.Lint(t.Context(), candidate), fault.CertificateInvalid, `"api.bank.example" is not permitted`)
}

// crossed is the key pair of an authority below an intermediate and root A, and below an intermediate and root B, which
// expire before those of A. onA and onB change the certificate at a place of each path.
type crossed struct {
	place    int
	onA, onB func(*x509.Certificate)
}

// files returns tls.crt, tls.key and ca.crt.
func (c crossed) files(t *testing.T) (crt, key, anchors []byte) {
	t.Helper()
	signer := makeAuthority(t, "Issuing CA", nil, pki.ECDSAP256, nil)
	for _, side := range []struct {
		name   string
		hours  int
		change func(*x509.Certificate)
	}{{"A", 1000, c.onA}, {"B", 900, c.onB}} {
		at := func(place int) func(*x509.Certificate) {
			return func(certificate *x509.Certificate) {
				lasting(side.hours)(certificate)
				if place == c.place && side.change != nil {
					certificate.PermittedDNSDomainsCritical = true
					side.change(certificate)
				}
			}
		}
		root := makeAuthority(t, "Root "+side.name, nil, pki.ECDSAP256, at(2))
		middle := makeAuthority(t, "Middle "+side.name, &root, pki.ECDSAP256, at(1))
		crt = slices.Concat(crt, signer.again(t, &middle, at(0)).pem(), middle.pem())
		anchors = append(anchors, root.pem()...)
	}
	return crt, signer.keyPEM, anchors
}

// issue signs a certificate with those names.
func (c crossed) issue(t *testing.T, names issuer.Names, usage issuer.Usage) (pki.Candidate, issuer.Chain) {
	t.Helper()
	open := ca.Constraints{CommonNames: []string{"*"}, Organizations: []string{"*"}, DNSNames: []string{"*.bank.example", "*.*.bank.example", "*.example.internal"}, IPRanges: []string{"10.0.0.0/8"},
		URIs: []string{"spiffe://bank.example/*"}, EmailDomains: []string{"bank.example"}, Usages: []issuer.Usage{usage}}
	crt, key, anchors := c.files(t)
	authority, err := opened(crt, key, anchors, open, now)
	if err != nil {
		t.Fatal(err)
	}
	own, csr, err := pki.NewKeyAndRequest(pki.ECDSAP256, pki.Names(names))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := authority.Issue(t.Context(), issuer.Request{ID: "1", CSR: csr, Names: names, Usages: open.Usages, Lifetime: time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	leaf, above := pem.Decode(chain.Certificates)
	certificate, err := x509.ParseCertificate(leaf.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if chainer, ok := authority.Issuer.(issuer.Chainer); !ok || !bytes.Equal(chainer.ChainFor(certificate, now), above) {
		t.Error("ChainFor is not what was published after the leaf")
	}
	return pki.Candidate{
		Material: credential.Material{credential.KeyPrivateKey: own, credential.KeyCertificate: credential.NewSensitive(chain.Certificates), credential.KeyAuthority: credential.NewSensitive(chain.Authorities)},
		Identity: pki.Identity{Names: pki.Names(names), Usages: []pki.Usage{pki.Usage(usage)}, KeyAlgorithm: pki.ECDSAP256, Lifetime: time.Hour, Habits: pki.Habits{Backdate: pki.Backdate}},
		Now:      now,
	}, chain
}

// published issues a certificate and checks that it may be published and that Go and OpenSSL accept it.
func (c crossed) published(t *testing.T, names issuer.Names, usage issuer.Usage) *pki.TLSSecret {
	t.Helper()
	candidate, chain := c.issue(t, names, usage)
	if err := pki.Lint(t.Context(), candidate); err != nil {
		t.Fatalf("it is not published: %v", err)
	}
	if err := issuertest.OpenSSLVerify(t, chain, usage, now, false); err != nil {
		t.Errorf("OpenSSL refuses it: %v", err)
	}
	secret, err := pki.ParseTLSSecret(pki.TLSSecretData(candidate.Material, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := secret.Verify(now); err != nil {
		t.Errorf("it does not verify once it is read back: %v", err)
	}
	return secret
}

func wantAnchor(t *testing.T, secret *pki.TLSSecret, want string) {
	t.Helper()
	path, ok := secret.Path(now)
	if !ok || path.Anchor().Subject.CommonName != want {
		t.Errorf("the path of what is published ends at %v, want %s", path.Certificates, want)
	}
}
