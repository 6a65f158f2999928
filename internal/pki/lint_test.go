// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
)

func candidate(m credential.Material) pki.Candidate {
	return pki.Candidate{Material: m, Identity: wanted(), Now: now}
}

func TestLintAcceptsValidCertificates(t *testing.T) {
	root := authority(t, "root", nil, nil)
	middle := authority(t, "middle", &root, nil)
	other := authority(t, "other", nil, nil)
	direct := sign(t, leafTemplate(), &root, pki.ECDSAP256)
	below := sign(t, leafTemplate(), &middle, pki.ECDSAP256)
	for name, m := range map[string]credential.Material{
		"directly below the root":           materialOf(direct, nil, root.pem()),
		"below an intermediate":             materialOf(below, middle.pem(), root.pem()),
		"an intermediate as the anchor":     materialOf(below, nil, middle.pem()),
		"an intermediate in both places":    materialOf(below, middle.pem(), middle.pem()),
		"one of two anchors has signed":     materialOf(direct, nil, slices.Concat(other.pem(), root.pem())),
		"an anchor that expires beside it":  materialOf(direct, nil, slices.Concat(authority(t, "old", nil, func(c *x509.Certificate) { c.NotAfter = now }).pem(), root.pem())),
		"its own name in another spelling":  materialOf(sign(t, edit(func(c *x509.Certificate) { c.DNSNames = []string{"APP.Example.internal"} }), &root, pki.ECDSAP256), nil, root.pem()),
		"a wait of a minute after it began": materialOf(sign(t, edit(func(c *x509.Certificate) { shift(c, -time.Minute) }), &root, pki.ECDSAP256), nil, root.pem()),
	} {
		t.Run(name, func(t *testing.T) {
			if err := pki.Lint(t.Context(), candidate(m)); err != nil {
				t.Error(err)
			}
		})
	}
}

func shift(c *x509.Certificate, by time.Duration) {
	c.NotBefore, c.NotAfter = c.NotBefore.Add(by), c.NotAfter.Add(by)
}

func edit(change func(*x509.Certificate)) *x509.Certificate {
	template := leafTemplate()
	change(template)
	return template
}

func TestLintFindsEachFault(t *testing.T) {
	root := authority(t, "root", nil, nil)
	for name, tc := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"another common name":       {func(c *x509.Certificate) { c.Subject.CommonName = "app" }, "commonName is app, want app-server"},
		"no organization":           {func(c *x509.Certificate) { c.Subject.Organization = nil }, "organizations is empty, want Example"},
		"one name too many":         {func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "b.example.internal") }, "dnsNames is app.example.internal, b.example.internal, want app.example.internal"},
		"one address too many":      {func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, "ipAddresses is 10.0.0.1, want empty"},
		"one URI too many":          {func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "a", Path: "/b"}} }, "uris is spiffe://a/b, want empty"},
		"one mailbox too many":      {func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }, "emailAddresses is a@example.com, want empty"},
		"a missing usage":           {func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, "usages is ClientAuth, want ClientAuth, ServerAuth"},
		"one usage too many":        {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }, "usages is ClientAuth, ServerAuth, other usage 3, want ClientAuth, ServerAuth"},
		"a usage without a name":    {func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3, 4}} }, "usages is 1.2.3.4, ClientAuth, ServerAuth"},
		"any usage":                 {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "usages is other usage 0"},
		"no usage":                  {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "usages is empty"},
		"a shorter life":            {func(c *x509.Certificate) { c.NotAfter = now.Add(time.Minute) }, "lifetime is 1m0s, want 1h0m0s"},
		"a longer life":             {func(c *x509.Certificate) { c.NotAfter = now.Add(2 * time.Hour) }, "lifetime is 2h0m0s, want 1h0m0s"},
		"a life beyond the chain":   {func(c *x509.Certificate) { c.NotAfter = now.Add(2000 * time.Hour) }, "notAfter is 2027-05-23T20:00:00Z, after that of the authority, 2027-04-12T04:00:00Z"},
		"expired":                   {func(c *x509.Certificate) { shift(c, -2*time.Hour) }, "has expired at 2027-03-01T11:00:00Z"},
		"not yet valid":             {func(c *x509.Certificate) { shift(c, time.Hour) }, "is not valid before 2027-03-01T12:55:00Z"},
		"backdated too far":         {func(c *x509.Certificate) { shift(c, -2*time.Minute) }, "must not start before 2027-03-01T11:54:00Z"},
		"an authority":              {func(c *x509.Certificate) { c.IsCA = true }, "can sign others"},
		"the right to sign":         {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "can sign others"},
		"no digital signature":      {func(c *x509.Certificate) { c.KeyUsage = 0 }, "digitalSignature is missing"},
		"encipherment with ECDSA":   {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }, "go beyond what TLS needs"},
		"a short serial number":     {func(c *x509.Certificate) { c.SerialNumber = big.NewInt(12345) }, "serial number of 14 bits is refused"},
		"a long serial number":      {func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big1, 160) }, "serial number of 161 bits is refused"},
		"no subject key identifier": {func(c *x509.Certificate) { c.SubjectKeyId = nil }, "subject key identifier is missing"},
		"an unknown extension that is critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, "critical extensions that TLS peers do not know: [1.2.3]"},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := sign(t, edit(tc.change), &root, pki.ECDSAP256)
			wantFinding(t, candidate(materialOf(leaf, nil, root.pem())), tc.want, leaf.key)
		})
	}
}

func TestLintFindsFaultsAroundTheLeaf(t *testing.T) {
	root := authority(t, "root", nil, nil)
	twin := authority(t, "root", nil, nil)
	shortRoot := authority(t, "short", nil, func(c *x509.Certificate) { c.NotAfter = now.Add(30 * time.Minute) })
	middle := authority(t, "middle", &root, nil)
	narrow := authority(t, "narrow", nil, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"elsewhere.internal"}, true
	})
	weakAKI := sign(t, edit(func(c *x509.Certificate) { c.AuthorityKeyId = []byte("else") }), &signed{certificate: withoutKeyID(root.certificate), signer: root.signer}, pki.ECDSAP256)
	leaf := sign(t, leafTemplate(), &root, pki.ECDSAP256)
	below := sign(t, leafTemplate(), &middle, pki.ECDSAP256)
	good := materialOf(leaf, nil, root.pem())
	for name, tc := range map[string]struct {
		change func(*pki.Candidate)
		want   string
	}{
		"no material":                  {func(c *pki.Candidate) { c.Material = nil }, "tls.crt is missing or empty"},
		"no anchor":                    {func(c *pki.Candidate) { c.Material = good.With(credential.KeyAuthority, nil) }, "ca.crt is missing or empty"},
		"the key of another":           {func(c *pki.Candidate) { c.Material = good.With(credential.KeyPrivateKey, below.key) }, "tls.key is not the key of the first certificate"},
		"an anchor with the same name": {func(c *pki.Candidate) { c.Material = good.With(credential.KeyAuthority, twin.pem()) }, "no certificate in ca.crt has signed \"CN=app-server,O=Example\""},
		"the intermediate is missing":  {func(c *pki.Candidate) { c.Material = materialOf(below, nil, root.pem()) }, "no certificate in ca.crt has signed"},
		"a chain in the wrong order": {func(c *pki.Candidate) {
			c.Material = materialOf(below, slices.Concat(root.pem(), middle.pem()), root.pem())
		}, "certificate 2 in tls.crt (\"CN=root\") has not signed the one before it"},
		"an anchor that ends before it": {func(c *pki.Candidate) {
			c.Material = materialOf(sign(t, leafTemplate(), &shortRoot, pki.ECDSAP256), nil, shortRoot.pem())
		}, "the chain does not verify at its last instant"},
		"name constraints of the anchor": {func(c *pki.Candidate) {
			c.Material = materialOf(sign(t, leafTemplate(), &narrow, pki.ECDSAP256), nil, narrow.pem())
		}, "not permitted by any constraint"},
		"another authority key":          {func(c *pki.Candidate) { c.Material = materialOf(weakAKI, nil, root.pem()) }, "the authority key identifier 656c7365 is not the subject key identifier"},
		"an authority other than wanted": {func(c *pki.Candidate) { c.Identity.AuthorityKeyID = []byte{1} }, "want 01"},
		"an algorithm other than wanted": {func(c *pki.Candidate) { c.Identity.KeyAlgorithm = pki.RSA2048 }, "keyAlgorithm is ECDSA-P256, want RSA-2048"},
		"constraints do not hold": {func(c *pki.Candidate) {
			c.Permit = func(*x509.Certificate) error { return errors.New("too pretty") }
		}, "constraints do not hold on the result: too pretty"},
		"a clock that is far behind": {func(c *pki.Candidate) { c.Now = now.Add(-24 * time.Hour) }, "the chain does not verify now (2027-02-28T12:00:00Z)"},
	} {
		t.Run(name, func(t *testing.T) {
			c := candidate(good)
			tc.change(&c)
			wantFinding(t, c, tc.want, leaf.key)
		})
	}
}

// withoutKeyID leaves the authority key identifier to the template of a leaf.
func withoutKeyID(certificate *x509.Certificate) *x509.Certificate {
	plain := *certificate
	plain.SubjectKeyId = nil
	return &plain
}

func wantFinding(t *testing.T, c pki.Candidate, want string, key []byte) {
	t.Helper()
	err := pki.Lint(t.Context(), c)
	if err == nil {
		t.Fatal("it passes")
	}
	if class, reason := fault.Classify(err), fault.ReasonOf(err, ""); class != fault.ClassPermanent || reason != fault.CertificateInvalid {
		t.Errorf("it is %s with the reason %s", class, reason)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("the findings are %q, want %q among them", err, want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Error("the findings take more than one line")
	}
	wantNoKey(t, err.Error(), key)
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		t.Fatal("the findings cannot be unwrapped")
	}
	for _, finding := range many.Unwrap() {
		if fault.ReasonOf(finding, "") != fault.CertificateInvalid {
			t.Errorf("the finding %q has another reason", finding)
		}
	}
}

func TestACanceledLintIsNotAVerdict(t *testing.T) {
	root := authority(t, "root", nil, nil)
	leaf := sign(t, leafTemplate(), &root, pki.ECDSAP256)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := pki.Lint(ctx, candidate(materialOf(leaf, nil, root.pem())))
	if !errors.Is(err, context.Canceled) || fault.Classify(err) != fault.ClassTransient {
		t.Errorf("it returns %v (%s)", err, fault.Classify(err))
	}
}

func BenchmarkLint(b *testing.B) {
	root := authority(b, "root", nil, nil)
	c := candidate(materialOf(sign(b, leafTemplate(), &root, pki.ECDSAP256), nil, root.pem()))
	for b.Loop() {
		if err := pki.Lint(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
