// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/pki"
)

// member is one authority of a hand-made chain.
type member struct {
	certificate *x509.Certificate
	key         crypto.Signer
	keyPEM      []byte
}

func (m member) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.certificate.Raw})
}

// makeAuthority creates an authority under another one, or a root, as openssl would; change edits the template.
func makeAuthority(tb testing.TB, name string, above *member, algorithm pki.KeyAlgorithm, change func(*x509.Certificate)) member {
	tb.Helper()
	sensitive, err := pki.NewKey(algorithm)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := pki.ParseKey(sensitive.Reveal())
	if err != nil {
		tb.Fatal(err)
	}
	id, err := pki.SubjectKeyID(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: nextSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-24 * time.Hour).Truncate(time.Second), NotAfter: now.Add(1000 * time.Hour).Truncate(time.Second),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, SubjectKeyId: id,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if above != nil {
		parent, signer = above.certificate, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return member{certificate: certificate, key: key, keyPEM: sensitive.Reveal()}
}

// serials numbers the certificates.
var serials atomic.Int64

func nextSerial() *big.Int { return big.NewInt(time.Now().UnixNano() + serials.Add(1)) }

// shape is the key pair of one kind of authority.
type shape struct {
	crt, key, anchors []byte
	expires           time.Time
	partial           bool
	published         int // certificates after a leaf
}

func until(end time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = end }
}

// shapes are all kinds of authorities that Parse accepts.
func shapes(tb testing.TB) map[string]shape {
	tb.Helper()
	end := now.Add(500 * time.Hour).Truncate(time.Second)
	out := map[string]shape{}
	for name, algorithm := range map[string]issuer.KeyAlgorithm{
		"managed, ECDSA-P256": issuer.ECDSAP256, "managed, ECDSA-P384": issuer.ECDSAP384,
		"managed, RSA-2048": issuer.RSA2048, "managed, Ed25519": issuer.Ed25519,
	} {
		crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "Example internal CA", KeyAlgorithm: algorithm, Lifetime: 1000 * time.Hour}, now)
		if err != nil {
			tb.Fatal(err)
		}
		out[name] = shape{crt: crt, key: key.Reveal(), expires: now.Truncate(time.Second).Add(1000 * time.Hour)}
	}
	root := makeAuthority(tb, "root", nil, pki.ECDSAP384, nil)
	middle := makeAuthority(tb, "middle", &root, pki.ECDSAP256, until(end))
	low := makeAuthority(tb, "low", &middle, pki.RSA2048, nil)
	later := makeAuthority(tb, "other root", nil, pki.ECDSAP256, until(end.Add(100*time.Hour)))
	chain := slices.Concat(low.pem(), middle.pem())
	out["an intermediate with its root"] = shape{crt: slices.Concat(middle.pem(), root.pem()), key: middle.keyPEM, expires: end, published: 1}
	out["two intermediates with their root, the upper ends first"] = shape{crt: slices.Concat(chain, root.pem()), key: low.keyPEM, expires: end, published: 2}
	out["two intermediates and the root in ca.crt"] = shape{crt: chain, key: low.keyPEM, anchors: root.pem(), expires: end, published: 2}
	out["an intermediate, two roots in ca.crt"] = shape{crt: middle.pem(), key: middle.keyPEM, anchors: slices.Concat(later.pem(), root.pem()), expires: end, published: 1}
	out["a root in both"] = shape{crt: root.pem(), key: root.keyPEM, anchors: root.pem(), expires: root.certificate.NotAfter}
	out["no root anywhere"] = shape{crt: chain, key: low.keyPEM, expires: end, partial: true, published: 2}
	return out
}
