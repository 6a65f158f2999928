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
	// MaxCertificateBytes bounds every file of certificates that is read: a chain, a set of trust anchors, a bundle. That of
	// a Linux distribution has about 220 KiB.
	MaxCertificateBytes = 256 << 10
	// MaxCertificates bounds the certificates in such a file. That of a Linux distribution has about 150.
	MaxCertificates = 500
	// shownSubject bounds what of a foreign certificate's subject is shown in a message.
	shownSubject = 128
)

// Backdate is how long before the instant of issue a certificate begins, so that a client or server whose clock is a
// little behind does not refuse it.
const Backdate = 5 * time.Minute

// parsed are the certificates that were read last. Those of an authority come with every certificate that it signs.
var parsed = remember[[]*x509.Certificate](128)

// maxRemembered certificates of one file are remembered with many others. A bundle of hundreds takes a megabyte or more when it
// is parsed, and a reconcile reads it several times: only the last few of these are remembered, between largeFiles and twice as
// many.
const (
	maxRemembered = 50
	largeFiles    = 2
)

// remembered are what was read last of small files and of large ones.
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

// put remembers a file of so many certificates.
func (r remembered[V]) put(key cache.Key, value V, certificates int) {
	if certificates <= maxRemembered {
		r.small.Put(key, value)
		return
	}
	r.large.Put(key, value)
}

// ParseCertificates reads certificates in PEM, as rekey writes them: at most 256 KiB and 500 certificates, nothing but
// certificates, and nothing after the last one. They may be shared with other callers: nobody may change one. For files
// that people bring there is ParseBundle.
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
			return nil, fmt.Errorf("has a damaged certificate at place %d: %w", i+1, err)
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

// certificateBlocks returns the PEM blocks of a file that holds nothing but certificates.
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

// EncodeCertificates writes certificates as PEM, without any explanatory text.
func EncodeCertificates(certificates ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, certificate := range certificates {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: labelCertificate, Bytes: certificate.Raw}))
	}
	return out.Bytes()
}

// SHA256 is the fingerprint of a certificate as openssl and browsers know it: the hash of its DER, in lower case hex.
func SHA256(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// SerialNumber shows a serial number in lower case hex, two digits per octet.
func SerialNumber(serial *big.Int) string { return hex.EncodeToString(serial.Bytes()) }

// Describe names a certificate in a message: its subject (shortened), or its serial number where that is empty.
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

// Instant shows a time in a message: RFC 3339, UTC.
func Instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
