// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// serialBytes is the length of a serial number: 128 bits.
const serialBytes = 16

// Root describes a self-signed authority to create.
type Root struct {
	CommonName   string
	KeyAlgorithm issuer.KeyAlgorithm
	// Lifetime counts from the authority's creation.
	Lifetime time.Duration
}

// NewSelfSigned creates a root authority that signs only leaves (path length 0), and returns its certificate, PEM, and its key. An
// error about the spec has class Permanent and reason AuthorityInvalid.
func NewSelfSigned(root Root, now time.Time) (crt []byte, key credential.Sensitive, err error) {
	if root.Lifetime < minimumLeft {
		return nil, key, invalid("the lifetime %s of the authority is shorter than %s", root.Lifetime, minimumLeft)
	}
	names := pki.Names{CommonName: root.CommonName}
	if err := names.Validate(); err != nil {
		return nil, key, invalid("the authority's %w", err)
	}
	key, err = pki.NewKey(pki.KeyAlgorithm(root.KeyAlgorithm))
	if err != nil {
		return nil, key, invalid("creating the key of the authority: %w", err)
	}
	signer, err := pki.ParseKey(key.Reveal())
	if err != nil {
		return nil, key, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, key, err
	}
	keyID, err := pki.SubjectKeyID(signer.Public())
	if err != nil {
		return nil, key, err
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: root.CommonName},
		NotBefore:             now.Add(-pki.Backdate),
		NotAfter:              now.Add(root.Lifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          keyID,
		AuthorityKeyId:        keyID,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, key, fmt.Errorf("signing the certificate of the authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, key, fmt.Errorf("reading back the certificate of the authority: %w", err)
	}
	return pki.EncodeCertificates(certificate), key, nil
}

// newSerial returns a serial number of 128 bits. The highest bit is set, so that all have the same length, and the lowest 127 are
// random; it is positive and 17 bytes long in DER (RFC 5280, section 4.1.2.2 allows 20).
func newSerial() (*big.Int, error) {
	var b [serialBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("generating a serial number: %w", err)
	}
	b[0] |= 0x80
	return new(big.Int).SetBytes(b[:]), nil
}
