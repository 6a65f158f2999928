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
	// PathLength is how many authorities may be below this one; with 0 it signs only leaves.
	PathLength int
	// Names are those that its certificate permits; nil for all.
	Names *issuer.NameConstraints
}

// NewSelfSigned creates a root authority, and returns its certificate, PEM, and its key. An error about the spec has class
// Permanent and reason AuthorityInvalid.
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
	template := authorityTemplate(root.CommonName, root.PathLength, now)
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, key, err
	}
	if template.SubjectKeyId, err = pki.SubjectKeyID(signer.Public()); err != nil {
		return nil, key, err
	}
	template.NotAfter, template.AuthorityKeyId = now.UTC().Truncate(time.Second).Add(root.Lifetime), template.SubjectKeyId
	if root.Names != nil {
		permitted, err := subtreesOf(*root.Names)
		if err != nil {
			return nil, key, err
		}
		permitted.write(template)
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

// authorityTemplate returns the certificate of an authority, without its key, serial number and expiry, and without what its issuer
// determines.
func authorityTemplate(commonName string, pathLength int, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.UTC().Truncate(time.Second).Add(-pki.Backdate),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLength,
		MaxPathLenZero:        pathLength == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
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
