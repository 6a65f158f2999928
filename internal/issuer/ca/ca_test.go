// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 500, time.UTC)

func uris(texts ...string) []*url.URL {
	var out []*url.URL
	for _, text := range texts {
		uri, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		out = append(out, uri)
	}
	return out
}

func constraints() ca.Constraints {
	return ca.Constraints{
		MaxLifetime:   720 * time.Hour,
		CommonNames:   []string{"app-*", "Ä*"},
		Organizations: []string{"Example"},
		DNSNames:      []string{"*.example.internal"},
		URIs:          []string{"spiffe://example.internal/ns/web/*"},
		IPRanges:      []string{"10.0.0.0/8", "fd00::/8"},
		EmailDomains:  []string{"example.com"},
		Usages:        []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
	}
}

func harness(t *testing.T, s shape) issuertest.Harness {
	t.Helper()
	authority, err := opened(s.crt, s.key, s.anchors, constraints(), now)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	permitter, ok := authority.Issuer.(issuer.Permitter)
	if !ok {
		t.Fatal("it cannot check a finished certificate")
	}
	return issuertest.Harness{
		Issuer: authority, Profile: authority.Profile,
		Permit: permitter.Permit,
		Now:    now, Expires: s.expires,
		Client: issuer.Names{
			CommonName: "app-client", Organizations: []string{"Example"},
			URIs: uris("spiffe://example.internal/ns/web/sa/app-client"), EmailAddresses: []string{"app@example.com"},
		},
		Server: issuer.Names{
			CommonName: "app-server", DNSNames: []string{"b.example.internal", "a.example.internal"},
			IPAddresses: []net.IP{net.ParseIP("10.1.2.3"), net.ParseIP("fd00::1")},
		},
		Denied:      issuer.Names{CommonName: "app-client", DNSNames: []string{"www.example.com"}},
		MaxLifetime: 720 * time.Hour, PartialChain: s.partial,
	}
}

func TestIssuerSatisfiesTheContract(t *testing.T) {
	for name, s := range shapes(t) {
		t.Run(name, func(t *testing.T) { issuertest.Run(t, harness(t, s)) })
	}
}

// opened opens an authority as for the Secret of a user.
func opened(crt, key, anchors []byte, constraints ca.Constraints, now time.Time) (*issuer.Authority, error) {
	secret := credential.Material{
		credential.KeyCertificate: credential.NewSensitive(crt), credential.KeyPrivateKey: credential.NewSensitive(key), credential.KeyAuthority: credential.NewSensitive(anchors),
	}
	return ca.KeyPair{}.Open(context.Background(), issuer.Config{Settings: []byte(`{"secretName":"ca"}`), Secret: secret, Constraints: constraints, Now: now})
}
