// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// PostgreSQL clients refuse a server certificate that is signed with Ed25519. The authority reports that before a server has
// one; the keys above it do not matter, nor does its own for an authority that signs only clients.
func TestAnAuthorityThatPostgreSQLServersCannotUseReportsIt(t *testing.T) {
	root := makeAuthority(t, "Root", nil, pki.ECDSAP256, nil)
	edwards := makeAuthority(t, "Edwards", &root, pki.Ed25519, nil)
	above := makeAuthority(t, "Edwards Root", nil, pki.Ed25519, nil)
	below := makeAuthority(t, "Below", &above, pki.RSA2048, nil)
	clients := constraints()
	clients.Usages = []issuer.Usage{issuer.ClientAuth}
	for name, tc := range map[string]struct {
		authority, anchor member
		constraints       issuer.Constraints
		says              bool
	}{
		"its key is Ed25519":             {edwards, root, constraints(), true},
		"a root of Ed25519":              {above, above, constraints(), true},
		"only the root above is Ed25519": {below, above, constraints(), false},
		"Ed25519 for clients only":       {edwards, root, clients, false},
		"ECDSA":                          {root, root, constraints(), false},
	} {
		authority, err := opened(tc.authority.pem(), tc.authority.keyPEM, tc.anchor.pem(), tc.constraints, now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		said := strings.Join(authority.Notes, " ")
		if strings.Contains(said, "Ed25519") != tc.says || tc.says && !strings.Contains(said, "use an authority with an ECDSA or RSA key for PostgreSQL servers") {
			t.Errorf("%s: it says %q", name, said)
		}
	}
}

// For a name and key, OpenSSL uses the trusted certificate even if it leads nowhere. The authority names it.
func TestAnAnchorThatOpenSSLPrefersIsNamed(t *testing.T) {
	f := newFamily(t)
	expiredRoot, futureRoot, shorter := f.root.again(t, nil, expired), f.root.again(t, nil, future), f.root.again(t, nil, lasting(50))
	onlyServers := f.root.again(t, nil, withUsages(x509.ExtKeyUsageServerAuth))
	flat := f.root.again(t, nil, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	limited := f.root.again(t, nil, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.internal"} })
	noID := f.middle.again(t, &member{certificate: &x509.Certificate{RawSubject: f.root.certificate.RawSubject, Subject: f.root.certificate.Subject, PublicKey: f.root.key.Public()}, key: f.root.key}, func(c *x509.Certificate) { c.AuthorityKeyId = nil })
	cross := f.root.again(t, &f.other, lasting(700))
	for name, tc := range map[string]struct {
		chain, anchors []member
		says           string
	}{
		"an expired root, the same key cross-signed":  {[]member{f.middle, cross}, []member{expiredRoot, f.other}, "expires at "},
		"a root that ends first":                      {[]member{f.middle, cross}, []member{shorter, f.other}, "expires at "},
		"a root that is not valid yet":                {[]member{f.middle, cross}, []member{futureRoot, f.other}, "is not valid before "},
		"a root for servers only":                     {[]member{f.middle, f.root}, []member{onlyServers, f.root}, "has an extended key usage"},
		"a root with name constraints":                {[]member{f.middle, cross}, []member{limited, f.other}, "has name constraints"},
		"a root with the same name constraints again": {[]member{f.middle}, []member{limited, limited.again(t, nil, lasting(900))}, ""},
		"a root for servers, the same cross-signed":   {[]member{f.middle, cross}, []member{onlyServers, f.other}, "has an extended key usage"},
		"a root without room below it":                {[]member{f.middle, f.root}, []member{flat, f.root}, "has the path length 0"},
		"an expired root and the same renewed":        {[]member{f.middle}, []member{expiredRoot, f.root}, ""},
		"a cross-signed root where both are trusted":  {[]member{f.middle, cross}, []member{f.root, f.other}, ""},
		"an expired root of another name":             {[]member{f.middle}, []member{f.old, f.root}, ""},
		"another key of the same name, no identifier": {[]member{noID}, []member{f.twin, f.root}, "has another key"},
		"an expired root of the same name, other key": {[]member{f.middle}, []member{f.twin, f.root}, ""},
	} {
		var chain, anchors []byte
		for _, one := range tc.chain {
			chain = append(chain, one.pem()...)
		}
		for _, one := range tc.anchors {
			anchors = append(anchors, one.pem()...)
		}
		authority, err := opened(chain, f.middle.keyPEM, anchors, constraints(), now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := slices.IndexFunc(authority.Notes, func(note string) bool { return strings.Contains(note, "OpenSSL may use ") })
		switch {
		case (found >= 0) != (tc.says != ""):
			t.Errorf("%s: it says %q", name, authority.Notes)
		case found >= 0 && (!strings.Contains(authority.Notes[found], tc.says) || !strings.Contains(authority.Notes[found], `"CN=Root"`)):
			t.Errorf("%s: the notes are %q, want %q", name, authority.Notes[found], tc.says)
		}
	}
}
