// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/cache"
)

const (
	// MaxCertificateBytes limits the size of every file of certificates: a chain, a set of trust anchors, a bundle. The
	// bundle of a Linux distribution has about 220 KiB.
	MaxCertificateBytes = 256 << 10
	// MaxCertificates limits the number of certificates in such a file. A Linux distribution has about 150.
	MaxCertificates = 500
	// shownSubject limits how much of a foreign certificate's subject a message shows.
	shownSubject = 128
)

// Backdate is how long before its time of issue a certificate becomes valid, so that a client or server with a slightly slow
// clock does not refuse it.
const Backdate = 5 * time.Minute

// parsed caches the certificates that were read most recently. An authority's certificates come with every certificate that
// it signs.
var parsed = remember[[]*x509.Certificate](128)

// Files of at most maxRemembered certificates share one large cache. A bundle of hundreds takes a megabyte or more once
// parsed, and a reconcile reads it several times: of these, only the last largeFiles to twice as many are kept.
const (
	maxRemembered = 50
	largeFiles    = 2
)

// remembered caches what was read most recently, separately for small and large files.
type remembered[V any] struct{ small, large *cache.Bounded[V] }

func remember[V any](small int) remembered[V] {
	return remembered[V]{cache.New[V](small), cache.New[V](largeFiles)}
}

func (r remembered[V]) get(key cache.Key) (V, bool) {
	if value, ok := r.small.Get(key); ok {
		return value, true
	}
	return r.large.Get(key)
}

// put caches a file with that many certificates.
func (r remembered[V]) put(key cache.Key, value V, certificates int) {
	if certificates <= maxRemembered {
		r.small.Put(key, value)
		return
	}
	r.large.Put(key, value)
}

// ParseCertificates reads certificates in PEM, as rekey writes them: at most 256 KiB and 500 certificates, only
// certificates, and nothing after the last one. The certificates may be shared with other callers: do not modify them. Use
// ParseBundle for files that users provide.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	key := sha256.Sum256(data)
	if known, ok := parsed.get(key); ok {
		return slices.Clone(known), nil
	}
	certificates, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	parsed.put(key, slices.Clone(certificates), len(certificates))
	return certificates, nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	blocks, err := certificateBlocks(data, false)
	if err != nil {
		return nil, err
	}
	certificates := make([]*x509.Certificate, 0, len(blocks))
	for i, block := range blocks {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has a damaged certificate at position %d: %w", i+1, err)
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

// certificateBlocks returns the PEM blocks of a file that holds only certificates.
func certificateBlocks(data []byte, lenient bool) ([]*pem.Block, error) {
	if count := bytes.Count(data, pemBegin); len(data) <= MaxCertificateBytes && count > MaxCertificates {
		return nil, fmt.Errorf("has %d PEM blocks; at most %d certificates are read", count, MaxCertificates)
	}
	blocks, err := decodePEM(data, pemRules{maxBytes: MaxCertificateBytes, maxBlocks: MaxCertificates, lenient: lenient})
	if err != nil {
		return nil, err
	}
	for i, block := range blocks {
		if block.Type != labelCertificate && (!lenient || block.Type != labelX509) {
			return nil, otherBlock(block.Type, i+1)
		}
	}
	return blocks, nil
}

// EncodeCertificates encodes certificates as PEM, without explanatory text.
func EncodeCertificates(certificates ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, certificate := range certificates {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: labelCertificate, Bytes: certificate.Raw}))
	}
	return out.Bytes()
}

// SHA256 returns the fingerprint of a certificate as openssl and browsers show it: the hash of its DER, in lowercase hex.
func SHA256(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// SerialNumber formats a serial number in lowercase hex, two digits per byte.
func SerialNumber(serial *big.Int) string { return hex.EncodeToString(serial.Bytes()) }

// Describe names a certificate in a message: by its subject (shortened), or by its serial number if the subject is empty.
func Describe(certificate *x509.Certificate) string {
	subject := certificate.Subject.String()
	if subject == "" {
		return "the certificate with serial number " + SerialNumber(certificate.SerialNumber)
	}
	return shortened(subject)
}

func shortened(subject string) string {
	if len(subject) > shownSubject {
		subject = subject[:shownSubject] + "..."
	}
	return fmt.Sprintf("%q", subject)
}

// Instant formats a time for a message: RFC 3339, UTC.
func Instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
