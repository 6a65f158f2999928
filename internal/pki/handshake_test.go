// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// pairOf signs a leaf with a new authority and returns a handshake with it; change edits the leaf.
func pairOf(t *testing.T, version uint16, change func(*x509.Certificate)) handshake {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootKey, rootCertificate := selfSign(t, root, nil, nil)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "app"}, DNSNames: []string{"*.example.internal"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		NotBefore: noon.Add(-time.Minute), NotAfter: noon.Add(time.Minute), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(leaf)
	}
	key, certificate := selfSign(t, leaf, rootCertificate, rootKey)
	other, err := peer()
	if err != nil {
		t.Fatal(err)
	}
	return handshake{
		secret: &TLSSecret{Leaf: certificate, Authorities: []*x509.Certificate{rootCertificate}},
		pair:   tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate},
		peer:   other, now: noon, version: version,
	}
}

func selfSign(t *testing.T, template, parent *x509.Certificate, parentKey crypto.Signer) (crypto.Signer, *x509.Certificate) {
	t.Helper()
	key, err := generateKey(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, certificate
}

func TestHandshakeFailsForEachKindOfDamage(t *testing.T) {
	type change = func(*x509.Certificate)
	for name, tc := range map[string]struct {
		leaf           change
		after          func(*handshake)
		client, server string // the error of the verifying side; empty: it succeeds
	}{
		"nothing is wrong": {},
		"no host name, only a URI": {leaf: func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses, c.URIs = nil, nil, []*url.URL{{Scheme: "spiffe", Host: "example.internal", Path: "/app"}}
		}},
		"expired":        {leaf: func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }, client: "expired", server: "expired"},
		"not yet valid":  {leaf: func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) }, client: "not yet valid", server: "not yet valid"},
		"usage: client":  {leaf: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, server: "incompatible key usage"},
		"usage: server":  {leaf: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, client: "incompatible key usage"},
		"another anchor": {after: func(h *handshake) { h.secret = pairOf(t, h.version, nil).secret }, client: "unknown authority", server: "unknown authority"},
		"another key":    {after: func(h *handshake) { h.pair.PrivateKey = pairOf(t, h.version, nil).pair.PrivateKey }, client: "nvalid signature", server: "nvalid signature"},
		"another name": {after: func(h *handshake) {
			other := *h.secret.Leaf
			other.DNSNames = []string{"b.example.com"}
			h.secret.Leaf = &other
		}, server: "is valid for *.example.internal, not b.example.com"},
		"another address": {after: func(h *handshake) {
			other := *h.secret.Leaf
			other.DNSNames, other.IPAddresses = nil, []net.IP{net.IPv4(10, 0, 0, 2)}
			h.secret.Leaf = &other
		}, server: "is valid for 10.0.0.1, not 10.0.0.2"},
		"expired, known by its URI": {leaf: func(c *x509.Certificate) {
			c.DNSNames, c.IPAddresses, c.NotAfter = nil, nil, noon.Add(-time.Second)
		}, client: "expired", server: "expired"},
		"an authority that has expired": {after: func(h *handshake) { h.now = noon.Add(2 * time.Hour) }, client: "expired", server: "expired"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" with "+tls.VersionName(version), func(t *testing.T) {
				h := pairOf(t, version, tc.leaf)
				if tc.after != nil {
					tc.after(&h)
				}
				wantVerdict(t, "as a client", h.inRole(t.Context(), ClientAuth), tc.client)
				wantVerdict(t, "as a server", h.inRole(t.Context(), ServerAuth), tc.server)
			})
		}
	}
}

func wantVerdict(t *testing.T, role string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: it is refused: %v", role, err)
	case want != "" && err == nil:
		t.Errorf("%s: it is accepted, want %q", role, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: the refusal is %q, want %q in it", role, err, want)
	}
}

func TestAUsageWithoutAHandshakeIsRefused(t *testing.T) {
	if err := pairOf(t, tls.VersionTLS13, nil).inRole(t.Context(), "CodeSigning"); err == nil {
		t.Error("it passes")
	}
}
