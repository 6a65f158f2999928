// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// signed is a certificate with its key.
type signed struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// template is a leaf for both usages, or an authority, that is valid for 60 days around now.
func template(name string, change func(*x509.Certificate)) *x509.Certificate {
	out := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-30 * day), NotAfter: now.Add(30 * day),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: []string{"app.example.internal"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(out)
	}
	return out
}

func isAuthority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.DNSNames, c.IPAddresses = true, x509.KeyUsageCertSign, nil, nil, nil
}

func sign(tb testing.TB, template *x509.Certificate, above *signed) *signed {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	parent, signer := template, crypto.Signer(key)
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
	return &signed{certificate, key}
}

func (s *signed) pem(tb testing.TB) (crt, key []byte) {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (s *signed) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{s.certificate.Raw}, PrivateKey: s.key, Leaf: s.certificate}
}

func (s *signed) identity(tb testing.TB, anchors *signed) *handshake.Identity {
	tb.Helper()
	crt, key := s.pem(tb)
	ca, _ := anchors.pem(tb)
	out, err := handshake.NewIdentity(credential.Material{
		credential.KeyCertificate: credential.NewSensitive(crt), credential.KeyPrivateKey: credential.NewSensitive(key), credential.KeyAuthority: credential.NewSensitive(ca),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// chain returns certificates, leaf first.
func chain(of ...*signed) []*x509.Certificate {
	var out []*x509.Certificate
	for _, s := range of {
		out = append(out, s.certificate)
	}
	return out
}
