// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
)

// Bundle is a file of certificates as users provide it: a chain, a set of trust anchors, or the bundle of a distribution.
type Bundle struct {
	// Certificates are in file order, without duplicates.
	Certificates []*x509.Certificate
	// Unreadable holds the certificates that are sound but that Go cannot use.
	Unreadable []Unreadable
}

// Unreadable is a certificate that Go cannot use but other software might.
type Unreadable struct {
	// Place is the position in the file, starting at 1.
	Place int
	// RawSubject is the subject in DER.
	RawSubject []byte
	// Err is the reason, phrased as the rest of a sentence about the certificate.
	Err error
}

// String names the certificate in a message, in the same way as Describe.
func (u Unreadable) String() string {
	var sequence pkix.RDNSequence
	if _, err := asn1.Unmarshal(u.RawSubject, &sequence); err != nil {
		return fmt.Sprintf("certificate %d", u.Place)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&sequence)
	return shortened(name.String())
}

// bundles caches the files that were read most recently.
var bundles = remember[Bundle](64)

// ParseBundle reads a file of certificates provided by a user, at most 256 KiB and 500 certificates. It accepts what OpenSSL
// accepts: text before, between and after the certificates, Windows line endings and duplicate certificates; it also accepts
// a byte order mark. A certificate that Go cannot use is kept apart: it matters only if a path needs it. An error reads as
// the rest of a sentence about the file; if no usable certificate is left for that reason, the error carries
// fault.UnsupportedAlgorithm. The certificates may be shared with other callers: do not modify them.
func ParseBundle(data []byte) (Bundle, error) {
	key := sha256.Sum256(data)
	if known, ok := bundles.get(key); ok {
		return known, nil
	}
	blocks, err := certificateBlocks(data, true)
	if err != nil {
		return Bundle{}, err
	}
	var out Bundle
	seen := map[[sha256.Size]byte]bool{}
	for i, block := range blocks {
		sum := sha256.Sum256(block.Bytes)
		if seen[sum] {
			continue
		}
		seen[sum] = true
		if err := out.add(i+1, block); err != nil {
			return Bundle{}, err
		}
	}
	if len(out.Certificates) == 0 {
		return Bundle{}, fmt.Errorf("holds no certificate that can be used: %s %w", out.Unreadable[0], out.Unreadable[0].Err)
	}
	bundles.put(key, out, len(blocks))
	return out, nil
}

func (b *Bundle) add(place int, block *pem.Block) error {
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err == nil && certificate.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		b.Certificates = append(b.Certificates, certificate)
		return nil
	}
	read, damage := readOutline(block.Bytes)
	if damage != nil {
		return fmt.Errorf("has a damaged certificate at position %d: %w", place, err)
	}
	b.Unreadable = append(b.Unreadable, Unreadable{Place: place, RawSubject: read.TBS.Subject.FullBytes, Err: unreadable(read, err)})
	return nil
}

// named returns the unreadable certificate with that subject.
func (b *Bundle) named(rawSubject []byte) (Unreadable, bool) {
	for _, certificate := range b.Unreadable {
		if bytes.Equal(certificate.RawSubject, rawSubject) {
			return certificate, true
		}
	}
	return Unreadable{}, false
}
