// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// spec is spec.managed of an authority, as the API server stores it.
type spec map[string]any

// rootSpec returns a spec with these changes.
func rootSpec(changes spec) spec {
	out := spec{"commonName": "Example root CA", "keyAlgorithm": "ECDSA-P256", "lifetime": "1000h", "pathLength": 0, "secretName": "ca"}
	maps.Copy(out, changes)
	return out
}

// belowSpec returns the spec of an authority that another one signs.
func belowSpec(changes spec) spec {
	out := rootSpec(spec{"commonName": "Example issuing CA", "lifetime": "100h", "signedBy": spec{"group": "rekey.dev", "kind": "CertificateAuthority", "name": "root"}})
	maps.Copy(out, changes)
	return out
}

// parental are the constraints of an authority that signs others.
func parental() ca.Constraints {
	return ca.Constraints{
		DNSNames: []string{"*.example.internal", "*.*.svc"}, URIs: []string{"spiffe://example.internal/*"}, IPRanges: []string{"10.0.0.0/8"},
		EmailDomains: []string{"example.com"}, Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
		Subordinates: &issuer.Subordinates{MaximumPathLength: 1, MaxLifetime: 500 * time.Hour},
	}
}

// create creates an authority from a spec, which another one signs, or its own key.
func create(settings spec, by issuer.Issuer, at time.Time) (credential.Material, error) {
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	return ca.Managed{}.Create(context.Background(), issuer.Creation{Settings: text, SignedBy: by, Now: at})
}

// createdAuthority creates an authority, and opens what was created.
func createdAuthority(t *testing.T, settings spec, by issuer.Issuer, constraints ca.Constraints) (*issuer.Authority, credential.Material) {
	t.Helper()
	secret, err := create(settings, by, now)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Managed{}.Open(t.Context(), issuer.Config{Settings: text, Secret: secret, Constraints: constraints, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return authority, secret
}

func certificatesOf(t *testing.T, pem []byte) []*x509.Certificate {
	t.Helper()
	out, err := pki.ParseCertificates(pem)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What the constraints of an authority allow becomes critical name constraints and extended key usages of those that it signs.
func TestASubordinateHasTheConstraintsOfItsSigner(t *testing.T) {
	root, _ := createdAuthority(t, rootSpec(spec{"pathLength": 2}), nil, parental())
	sorted := func(in []string) []string { return slices.Sorted(slices.Values(in)) }
	for name, tc := range map[string]struct {
		settings    spec
		constraints func(*ca.Constraints)
		want        []string
		usages      []x509.ExtKeyUsage
	}{
		"all that its signer allows": {nil, nil,
			[]string{"10.0.0.0/8", "dns example.internal", "dns svc", "mail example.com", "uri example.internal"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		"only what the spec lists": {spec{"nameConstraints": spec{"permittedDNSDomains": []string{"web.example.internal", "a.b.svc"}, "permittedIPRanges": []string{"10.1.0.0/16"}}}, nil,
			[]string{"10.1.0.0/16", "dns a.b.svc", "dns web.example.internal", "mail invalid", "uri invalid"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		"no name at all": {spec{"nameConstraints": spec{}}, nil,
			[]string{"dns invalid", "mail invalid", "not 0.0.0.0/0", "not ::/0", "uri invalid"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		"its signer lists one kind of name, and one usage": {nil, func(c *ca.Constraints) {
			c.URIs, c.IPRanges, c.EmailDomains, c.Usages = nil, nil, nil, []issuer.Usage{issuer.ServerAuth}
		}, []string{"dns example.internal", "dns svc", "mail invalid", "not 0.0.0.0/0", "not ::/0", "uri invalid"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
	} {
		t.Run(name, func(t *testing.T) {
			constraints := parental()
			if tc.constraints != nil {
				tc.constraints(&constraints)
			}
			signer, _ := createdAuthority(t, rootSpec(spec{"pathLength": 2}), nil, constraints)
			secret, err := create(belowSpec(tc.settings), signer.Issuer, now)
			if err != nil {
				t.Fatal(err)
			}
			certificate := certificatesOf(t, secret[credential.KeyCertificate].Reveal())[0]
			var got []string
			for kind, names := range map[string][]string{"dns ": certificate.PermittedDNSDomains, "uri ": certificate.PermittedURIDomains, "mail ": certificate.PermittedEmailAddresses} {
				for _, name := range names {
					got = append(got, kind+name)
				}
			}
			for _, network := range certificate.PermittedIPRanges {
				got = append(got, network.String())
			}
			for _, network := range certificate.ExcludedIPRanges {
				got = append(got, "not "+network.String())
			}
			if diff := cmp.Diff(tc.want, sorted(got)); diff != "" {
				t.Errorf("its name constraints (-want +got):\n%s", diff)
			}
			if !certificate.PermittedDNSDomainsCritical || len(certificate.ExcludedDNSDomains) > 0 {
				t.Error("the name constraints are not critical, or exclude a domain")
			}
			if !slices.Equal(certificate.ExtKeyUsage, tc.usages) {
				t.Errorf("its extended key usages are %v", certificate.ExtKeyUsage)
			}
		})
	}
	_, secret := createdAuthority(t, belowSpec(nil), root.Issuer, constraints())
	chain, anchors := certificatesOf(t, secret[credential.KeyCertificate].Reveal()), certificatesOf(t, secret[credential.KeyAuthority].Reveal())
	if len(chain) != 2 || len(anchors) != 1 || !chain[1].Equal(anchors[0]) || chain[0].CheckSignatureFrom(anchors[0]) != nil {
		t.Errorf("tls.crt has %d certificates and ca.crt %d, want the authority and its root, and the root", len(chain), len(anchors))
	}
	if !chain[0].MaxPathLenZero || chain[0].MaxPathLen != 0 || chain[1].MaxPathLen != 2 {
		t.Errorf("the path lengths are %d and %d", chain[0].MaxPathLen, chain[1].MaxPathLen)
	}
}

func TestASubordinateIsRefusedWithFieldAndFix(t *testing.T) {
	for name, tc := range map[string]struct {
		settings spec
		signer   spec
		with     func(*ca.Constraints)
		reason   fault.Reason
		text     string
	}{
		"no subordinates": {nil, nil, func(c *ca.Constraints) { c.Subordinates = nil }, fault.ConstraintViolated, "constraints.subordinates is absent; ask its owner to set it"},
		"no usages":       {nil, nil, func(c *ca.Constraints) { c.Usages = nil }, fault.ConstraintViolated, "constraints.usages of \"CN=Example root CA\" is empty"},
		"a path length above the maximum": {spec{"pathLength": 2}, nil, nil, fault.ConstraintViolated,
			"managed.pathLength 2 is above constraints.subordinates.maximumPathLength of \"CN=Example root CA\", which is 1: delete this authority, and create it with a lower one"},
		"a lifetime above the maximum": {spec{"lifetime": "501h"}, nil, nil, fault.LifetimeTooLong,
			"managed.lifetime 501h0m0s is longer than constraints.subordinates.maxLifetime of \"CN=Example root CA\", which is 500h0m0s: delete this authority, and create it with a shorter one"},
		"a signer that signs only leaves": {nil, spec{"pathLength": 0}, nil, fault.ConstraintViolated, "needs a path length of at least 1 in the certificate of the authority that signs it"},
		"a signer whose path is too short for it": {spec{"pathLength": 1}, spec{"pathLength": 1}, nil, fault.ConstraintViolated,
			"managed.pathLength 1 needs a path length of at least 2 in the certificate of the authority that signs it, but \"CN=Example root CA\" leaves room for 1"},
		"the name of its signer": {spec{"commonName": "Example root CA"}, nil, nil, fault.ConstraintViolated, "managed.commonName \"Example root CA\" is also the name of an authority above it"},
		"a star between labels":  {nil, nil, func(c *ca.Constraints) { c.DNSNames = []string{"db.*.svc"} }, fault.ConstraintViolated, "constraints.dnsNames: \"db.*.svc\" cannot be a name constraint"},
		"only a star":            {nil, nil, func(c *ca.Constraints) { c.DNSNames = []string{"*"} }, fault.ConstraintViolated, "constraints.dnsNames: \"*\" cannot be a name constraint"},
		"the path of a URI": {nil, nil, func(c *ca.Constraints) { c.URIs = []string{"spiffe://example.internal/ns/web/*"} }, fault.ConstraintViolated,
			"constraints.uris: \"spiffe://example.internal/ns/web/*\" cannot be a name constraint in the certificate of another authority, which permits all URIs of a host name: use a pattern such as spiffe://example.internal/*"},
		"one URI":             {nil, nil, func(c *ca.Constraints) { c.URIs = []string{"https://example.internal/app"} }, fault.ConstraintViolated, "constraints.uris"},
		"a URI without host":  {nil, nil, func(c *ca.Constraints) { c.URIs = []string{"urn:example:app"} }, fault.ConstraintViolated, "constraints.uris"},
		"a port in a URI":     {nil, nil, func(c *ca.Constraints) { c.URIs = []string{"https://example.internal:8443/*"} }, fault.ConstraintViolated, "constraints.uris"},
		"an address in a URI": {nil, nil, func(c *ca.Constraints) { c.URIs = []string{"https://10.0.0.1/*"} }, fault.ConstraintViolated, "constraints.uris"},
		"a domain outside": {spec{"nameConstraints": spec{"permittedDNSDomains": []string{"bank.example"}}}, nil, nil, fault.ConstraintViolated,
			"managed.nameConstraints.permittedDNSDomains: \"bank.example\" is outside constraints.dnsNames of \"CN=Example root CA\", which permits example.internal, svc: delete this authority, and create it with a name inside"},
		"a domain that only ends like one":   {spec{"nameConstraints": spec{"permittedDNSDomains": []string{"anexample.internal"}}}, nil, nil, fault.ConstraintViolated, "anexample.internal"},
		"a host below that of a URI":         {spec{"nameConstraints": spec{"permittedURIDomains": []string{"a.example.internal"}}}, nil, nil, fault.ConstraintViolated, "permittedURIDomains"},
		"a domain of mail outside":           {spec{"nameConstraints": spec{"permittedEmailDomains": []string{"a.example.com"}}}, nil, nil, fault.ConstraintViolated, "permittedEmailDomains"},
		"a wider network":                    {spec{"nameConstraints": spec{"permittedIPRanges": []string{"8.0.0.0/5"}}}, nil, nil, fault.ConstraintViolated, "permittedIPRanges: 8.0.0.0/5 is outside constraints.ipRanges"},
		"a network of the other family":      {spec{"nameConstraints": spec{"permittedIPRanges": []string{"fd00::/8"}}}, nil, nil, fault.ConstraintViolated, "permittedIPRanges"},
		"a network that is none":             {spec{"nameConstraints": spec{"permittedIPRanges": []string{"10.0.0.1/8"}}}, nil, nil, fault.AuthorityInvalid, "10.0.0.1/8"},
		"a domain that is none":              {spec{"nameConstraints": spec{"permittedDNSDomains": []string{"*.example.internal"}}}, nil, nil, fault.AuthorityInvalid, "permittedDNSDomains"},
		"a signer that is about to expire":   {nil, spec{"lifetime": "50s"}, nil, fault.AuthorityInvalid, "shorter than 1m0s"},
		"an algorithm that is not supported": {spec{"keyAlgorithm": "DSA"}, nil, nil, fault.AuthorityInvalid, "unknown key algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			allowed := parental()
			if tc.with != nil {
				tc.with(&allowed)
			}
			above := spec{"pathLength": 2}
			maps.Copy(above, tc.signer)
			var err error
			if above["lifetime"] == "50s" {
				_, err = create(rootSpec(above), nil, now)
			} else {
				signer, _ := createdAuthority(t, rootSpec(above), nil, allowed)
				_, err = create(belowSpec(tc.settings), signer.Issuer, now)
			}
			wantFault(t, err, tc.reason, tc.text)
		})
	}
	_, err := create(belowSpec(nil), issuer.Issuer(onlyLeaves{}), now)
	wantFault(t, err, fault.ConstraintViolated, "cannot sign authorities: create the authority with another")
}

// An authority is not created if its certificate would permit what those above it do not: Java does not check a trust anchor.
func TestASubordinatePermitsNothingThatItsSignersCertificateDoesNot(t *testing.T) {
	for name, tc := range map[string]struct {
		above spec
		want  string
	}{
		"a domain":      {spec{"permittedDNSDomains": []string{"svc"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/8"}, "permittedEmailDomains": []string{"example.com"}}, "the DNS name example.internal"},
		"a part of it":  {spec{"permittedDNSDomains": []string{"web.example.internal", "svc"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/8"}, "permittedEmailDomains": []string{"example.com"}}, "the DNS name example.internal"},
		"a host":        {spec{"permittedDNSDomains": []string{"example.internal", "svc"}, "permittedIPRanges": []string{"10.0.0.0/8"}, "permittedEmailDomains": []string{"example.com"}}, "the URI https://example.internal/"},
		"half of a net": {spec{"permittedDNSDomains": []string{"example.internal", "svc"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/9"}, "permittedEmailDomains": []string{"example.com"}}, "the IP address 10.255.255.255"},
		"mail":          {spec{"permittedDNSDomains": []string{"example.internal", "svc"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/8"}}, "the email address name@example.com"},
		"all of it":     {spec{"permittedDNSDomains": []string{"internal", "svc"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/8"}, "permittedEmailDomains": []string{"example.com"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			signer, _ := createdAuthority(t, rootSpec(spec{"pathLength": 1, "nameConstraints": tc.above}), nil, parental())
			_, err := create(belowSpec(nil), signer.Issuer, now)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, err, fault.ConstraintViolated, "do not permit "+tc.want)
		})
	}
}

// What a certificate above excludes, a subordinate excludes too: Java does not check a trust anchor.
func TestASubordinateExcludesWhatItsSignersCertificateDoes(t *testing.T) {
	_, hidden, err := net.ParseCIDR("10.9.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	root := makeAuthority(t, "Example root CA", nil, pki.ECDSAP256, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.ExcludedDNSDomains, c.ExcludedEmailAddresses, c.ExcludedURIDomains = []string{"secret.example.internal"}, []string{"root@example.com"}, []string{"other.internal"}
		c.ExcludedIPRanges = []*net.IPNet{hidden}
	})
	signer, err := opened(root.pem(), root.keyPEM, nil, parental(), now)
	if err != nil {
		t.Fatal(err)
	}
	_, secret := createdAuthority(t, belowSpec(nil), signer.Issuer, constraints())
	for name, tc := range map[string]struct {
		settings spec
		networks []string
	}{
		"all names":    {belowSpec(nil), []string{"10.9.0.0/16"}},
		"no addresses": {belowSpec(spec{"nameConstraints": spec{"permittedDNSDomains": []string{"example.internal"}}}), []string{"0.0.0.0/0", "::/0"}},
	} {
		t.Run(name, func(t *testing.T) {
			authority, secret := createdAuthority(t, tc.settings, signer.Issuer, constraints())
			got := certificatesOf(t, secret[credential.KeyCertificate].Reveal())[0]
			var networks []string
			for _, network := range got.ExcludedIPRanges {
				networks = append(networks, network.String())
			}
			want := [][]string{{"secret.example.internal"}, {"root@example.com"}, {"other.internal"}, tc.networks}
			if diff := cmp.Diff(want, [][]string{got.ExcludedDNSDomains, got.ExcludedEmailAddresses, got.ExcludedURIDomains, networks}); diff != "" {
				t.Errorf("what it excludes (-want +got):\n%s", diff)
			}
			if len(authority.Notes) > 0 && strings.Contains(strings.Join(authority.Notes, " "), "kept from an earlier authority") {
				t.Errorf("what it excludes is reported as a difference: %v", authority.Notes)
			}
		})
	}
	chain := rogue(t, secret, issuer.Names{DNSNames: []string{"a.secret.example.internal"}})
	chain.Authorities, chain.Certificates = secret[credential.KeyCertificate].Reveal(), pki.EncodeCertificates(certificatesOf(t, chain.Certificates)[0])
	if verifiesInGo(t, chain) {
		t.Error("its own certificate permits what its signer's excludes")
	}
}

// A refusal costs no key: it is repeated as long as the authority exists.
func TestARefusedSubordinateCostsNoKey(t *testing.T) {
	signer, _ := createdAuthority(t, rootSpec(spec{"pathLength": 2}), nil, parental())
	counting := &countsSignatures{Issuer: signer.Issuer, superior: signer.Issuer.(issuer.Superior)}
	_, err := create(belowSpec(spec{"pathLength": 2}), counting, now)
	wantFault(t, err, fault.ConstraintViolated, "managed.pathLength 2")
	if counting.signed > 0 {
		t.Error("a key was created and presented before the refusal")
	}
	if _, err := create(belowSpec(nil), counting, now); err != nil || counting.signed != 1 {
		t.Errorf("signed %d times: %v", counting.signed, err)
	}
}

// countsSignatures counts the requests that reach an issuer with a key.
type countsSignatures struct {
	issuer.Issuer
	superior issuer.Superior
	signed   int
}

func (c *countsSignatures) Admit(ctx context.Context, request issuer.Subordinate) error {
	return c.superior.Admit(ctx, request)
}

func (c *countsSignatures) SignAuthority(ctx context.Context, request issuer.Subordinate) ([]byte, error) {
	c.signed++
	return c.superior.SignAuthority(ctx, request)
}

// onlyLeaves is an issuer that signs no authorities.
type onlyLeaves struct{ issuer.Issuer }

// No certificate outlives any above it, whatever was requested.
func TestNothingBelowARootOutlivesIt(t *testing.T) {
	root, rootSecret := createdAuthority(t, rootSpec(spec{"pathLength": 2, "lifetime": "80h"}), nil, parental())
	middleRules := parental()
	middleRules.Subordinates.MaximumPathLength = 0
	middle, middleSecret := createdAuthority(t, belowSpec(spec{"pathLength": 1, "lifetime": "90h", "commonName": "Middle"}), root.Issuer, middleRules)
	low, lowSecret := createdAuthority(t, belowSpec(spec{"lifetime": "100h"}), middle.Issuer, constraints())
	end := certificatesOf(t, rootSecret[credential.KeyCertificate].Reveal())[0].NotAfter
	for name, secret := range map[string]credential.Material{"the middle one": middleSecret, "the lowest": lowSecret} {
		if got := certificatesOf(t, secret[credential.KeyCertificate].Reveal())[0].NotAfter; !got.Equal(end) {
			t.Errorf("%s expires at %s, its root at %s", name, got, end)
		}
	}
	for _, authority := range []*issuer.Authority{middle, low} {
		if len(authority.Notes) > 0 {
			t.Errorf("a shortened lifetime is reported as a difference: %v", authority.Notes)
		}
		if !authority.NotAfter.Equal(end) {
			t.Errorf("the status shows %s", authority.NotAfter)
		}
	}
	h := issuertest.Harness{Issuer: low, Profile: low.Profile, Now: now}
	request := h.Request(t, pki.ECDSAP256, issuer.Names{CommonName: "app-a"}, issuer.ClientAuth)
	request.Lifetime = 200 * time.Hour
	chain, err := low.Issue(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	certificates := certificatesOf(t, chain.Certificates)
	if len(certificates) != 3 || !certificates[0].NotAfter.Equal(end) {
		t.Errorf("%d certificates are published, and the leaf expires at %s, want 3 and %s", len(certificates), certificates[0].NotAfter, end)
	}
	if got := certificatesOf(t, chain.Authorities); len(got) != 1 || got[0].Subject.CommonName != "Example root CA" {
		t.Errorf("ca.crt holds %d certificates, want the root", len(got))
	}
	if err := issuertest.OpenSSLVerify(t, chain, issuer.ClientAuth, now, false); err != nil {
		t.Error(err)
	}
	if _, err := create(belowSpec(spec{"commonName": "Late"}), root.Issuer, end.Add(time.Hour)); fault.ReasonOf(err, "") != fault.AuthorityExpired {
		t.Errorf("an expired authority signs another: %v", err)
	}
}

// Anyone who has the key of a subordinate can sign anything, but peers refuse what its certificate does not permit. Every kind of name
// is tested with a subordinate that permits some of them, one that permits none, and a root with constraints of its own.
func TestPeersEnforceTheConstraintsOfASubordinate(t *testing.T) {
	root, _ := createdAuthority(t, rootSpec(spec{"pathLength": 1}), nil, parental())
	inside := map[string]issuer.Names{
		"a DNS name": {DNSNames: []string{"app.example.internal"}}, "a URI": {URIs: uris("spiffe://example.internal/ns/web/app")},
		"an address": {IPAddresses: []net.IP{net.IPv4(10, 1, 2, 3)}}, "mail": {EmailAddresses: []string{"ops@example.com"}}, "a word": {CommonName: "app"},
	}
	outside := map[string]issuer.Names{
		"a DNS name": {DNSNames: []string{"app.bank.example"}}, "a URI": {URIs: uris("spiffe://bank.example/app")},
		"an address": {IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, "an IPv6 address": {IPAddresses: []net.IP{net.ParseIP("fd00::1")}},
		"mail": {EmailAddresses: []string{"ops@bank.example"}},
	}
	for name, tc := range map[string]struct {
		settings spec
		by       issuer.Issuer
		permits  bool
	}{
		"all that its signer allows":        {belowSpec(nil), root.Issuer, true},
		"no name":                           {belowSpec(spec{"nameConstraints": spec{}}), root.Issuer, false},
		"a root with constraints":           {rootSpec(spec{"nameConstraints": spec{"permittedDNSDomains": []string{"example.internal"}, "permittedURIDomains": []string{"example.internal"}, "permittedIPRanges": []string{"10.0.0.0/8"}, "permittedEmailDomains": []string{"example.com"}}}), nil, true},
		"a root that permits no name":       {rootSpec(spec{"nameConstraints": spec{}}), nil, false},
		"a subordinate with an Ed25519 key": {belowSpec(spec{"keyAlgorithm": "Ed25519"}), root.Issuer, true},
	} {
		secret, err := create(tc.settings, tc.by, now)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, names issuer.Names, want bool) {
			chain := rogue(t, secret, names)
			if err := issuertest.OpenSSLVerify(t, chain, issuer.ClientAuth, now, false); (err == nil) != want {
				t.Errorf("%s: OpenSSL's answer about %s is %v, want accepted: %t", name, what, err, want)
			}
			if got := verifiesInGo(t, chain); got != want {
				t.Errorf("%s: Go accepts %s: %t, want %t", name, what, got, want)
			}
		}
		for what, names := range inside {
			check(what, names, tc.permits || what == "a word")
		}
		for what, names := range outside {
			check(what+" outside", names, false)
		}
	}
}

// rogue signs a certificate with an authority's key as someone does who has stolen it.
func rogue(t *testing.T, secret credential.Material, names issuer.Names) issuer.Chain {
	t.Helper()
	chain := certificatesOf(t, secret[credential.KeyCertificate].Reveal())
	key, err := pki.ParseKey(secret[credential.KeyPrivateKey].Reveal())
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.ParseKey(clientKey(t).Reveal())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: nextSerial(), Subject: pkix.Name{CommonName: names.CommonName}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames: names.DNSNames, URIs: names.URIs, IPAddresses: names.IPAddresses, EmailAddresses: names.EmailAddresses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, chain[0], own.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer.Chain{
		Certificates: pki.EncodeCertificates(append([]*x509.Certificate{leaf}, chain[:len(chain)-1]...)...),
		Authorities:  pki.EncodeCertificates(chain[len(chain)-1]),
	}
}

// What the name constraints above a leaf do not permit is refused before it is signed, and the message names the certificate.
func TestNamesOutsideTheChainAreRefusedBeforeSigning(t *testing.T) {
	root, _ := createdAuthority(t, rootSpec(spec{"pathLength": 1}), nil, parental())
	wide := ca.Constraints{CommonNames: []string{"*"}, DNSNames: []string{"*.*", "*.*.*"}, IPRanges: []string{"0.0.0.0/0"}, EmailDomains: []string{"bank.example"},
		URIs: []string{"spiffe://bank.example/*"}, Usages: []issuer.Usage{issuer.ClientAuth}}
	low, _ := createdAuthority(t, belowSpec(nil), root.Issuer, wide)
	h := issuertest.Harness{Issuer: low, Profile: low.Profile, Now: now}
	for name, names := range map[string]issuer.Names{
		"the DNS name www.bank.example":      {DNSNames: []string{"a.example.internal", "www.bank.example"}},
		"the URI spiffe://bank.example/app":  {URIs: uris("spiffe://bank.example/app")},
		"the IP address 192.0.2.1":           {IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}},
		"the email address ops@bank.example": {EmailAddresses: []string{"ops@bank.example"}},
		"the common name www.bank.example":   {CommonName: "www.bank.example"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := low.Issue(t.Context(), h.Request(t, pki.ECDSAP256, names, issuer.ClientAuth))
			wantFault(t, err, fault.ConstraintViolated, fmt.Sprintf("the name constraints of %q do not permit %s", "CN=Example issuing CA", name))
		})
	}
}

// A retained key pair that was created for other settings is used, and reported.
func TestAKeyPairOfOtherSettingsIsReported(t *testing.T) {
	root, _ := createdAuthority(t, rootSpec(spec{"pathLength": 1}), nil, parental())
	_, low := createdAuthority(t, belowSpec(nil), root.Issuer, constraints())
	_, plain := createdAuthority(t, rootSpec(nil), nil, constraints())
	for name, tc := range map[string]struct {
		secret   credential.Material
		settings spec
		want     string
	}{
		"as created":                 {low, belowSpec(nil), ""},
		"a root as created":          {plain, rootSpec(nil), ""},
		"another path length":        {plain, rootSpec(spec{"pathLength": 1}), `its pathLength is "0", but spec.managed says "1"`},
		"name constraints":           {plain, rootSpec(spec{"nameConstraints": spec{"permittedDNSDomains": []string{"example.internal"}}}), `its nameConstraints is "", but spec.managed says "example.internal, `},
		"a root for a subordinate":   {plain, belowSpec(spec{"commonName": "Example root CA", "lifetime": "1000h"}), `its signer is "itself", but spec.managed says "another authority"`},
		"a subordinate for a root":   {low, rootSpec(spec{"commonName": "Example issuing CA", "lifetime": "100h"}), `its signer is "another authority", but spec.managed says "itself"`},
		"a shorter lifetime was cut": {low, belowSpec(spec{"lifetime": "50h"}), `its lifetime is "100h0m0s", but spec.managed says "50h0m0s"`},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(tc.settings)
			if err != nil {
				t.Fatal(err)
			}
			authority, err := ca.Managed{}.Open(t.Context(), issuer.Config{Settings: text, Secret: tc.secret, Constraints: constraints(), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if notes := strings.Join(authority.Notes, " "); !strings.Contains(notes, tc.want) || tc.want == "" && notes != "" {
				t.Errorf("the notes are %q, want %q in them", notes, tc.want)
			}
		})
	}
}
