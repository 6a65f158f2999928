// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

var (
	now  = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	big1 = big.NewInt(1)
)

// signed is a certificate with its key.
type signed struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	key         []byte
}

func (s signed) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw})
}

// sign creates a certificate from a template, signed by above or self-signed.
func sign(tb testing.TB, template *x509.Certificate, above *signed, algorithm pki.KeyAlgorithm) signed {
	tb.Helper()
	keyPEM := newKey(tb, algorithm)
	key := must[crypto.Signer](tb)(pki.ParseKey(keyPEM))
	parent, signer := template, key
	if above != nil {
		parent, signer = above.certificate, above.signer
	}
	der := must[[]byte](tb)(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	return signed{certificate: must[*x509.Certificate](tb)(x509.ParseCertificate(der)), signer: key, key: keyPEM}
}

func authority(tb testing.TB, name string, above *signed, change func(*x509.Certificate)) signed {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big1, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(template)
	}
	return sign(tb, template, above, pki.ECDSAP256)
}

// wanted returns the identity that matches leafTemplate.
func wanted() pki.Identity {
	return pki.Identity{
		Names:        pki.Names{CommonName: "app-server", Organizations: []string{"Example"}, DNSNames: []string{"app.example.internal"}},
		Usages:       []pki.Usage{pki.ClientAuth, pki.ServerAuth},
		KeyAlgorithm: pki.ECDSAP256,
		Lifetime:     time.Hour,
		Habits:       own(),
	}
}

func leafTemplate() *x509.Certificate {
	serial := new(big.Int).Lsh(big1, 127)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "app-server", Organization: []string{"Example"}},
		DNSNames:  []string{"app.example.internal"},
		NotBefore: now.Add(-pki.Backdate), NotAfter: now.Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: []byte("leaf"),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

func materialOf(leaf signed, chain, anchors []byte) credential.Material {
	return credential.Material{
		credential.KeyPrivateKey:  credential.NewSensitive(leaf.key),
		credential.KeyCertificate: credential.NewSensitive(append(leaf.pem(), chain...)),
		credential.KeyAuthority:   credential.NewSensitive(anchors),
	}
}

// own are the habits of rekey's own authority.
func own() pki.Habits { return pki.Habits{Backdate: pki.Backdate} }
