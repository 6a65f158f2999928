// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"crypto/x509"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Constraints limit what an authority may certify. A kind of name that is not listed is denied, and so is a usage.
type Constraints struct {
	// MaxLifetime is the maximum lifetime of a leaf; with 0 only the lifetime of the chain limits it.
	MaxLifetime time.Duration
	// CommonNames are patterns in which "*" matches any sequence of characters.
	CommonNames []string
	// Organizations are patterns in which "*" matches any sequence of characters.
	Organizations []string
	// DNSNames are host names in which a label may be "*", which matches exactly one label.
	DNSNames []string
	// URIs are exact, or end in "/*", which matches any longer path. Scheme and host are always exact.
	URIs []string
	// IPRanges are networks in CIDR notation.
	IPRanges []string
	// EmailDomains are the exact domains of email addresses.
	EmailDomains []string
	// Usages are the usages that may be requested.
	Usages []Usage
}

// Root describes a self-signed authority to create.
type Root struct {
	CommonName   string
	KeyAlgorithm KeyAlgorithm
	// Lifetime counts from the authority's creation.
	Lifetime time.Duration
}

// Authority is a certificate authority with a key that rekey holds, and what a status shows about it.
type Authority struct {
	Issuer
	// SHA256, Subject and NotBefore are those of the certificate that signs; NotAfter is the earliest of its chain.
	SHA256, Subject     string
	NotBefore, NotAfter time.Time
	// KeyID is the subject key identifier: the authority key identifier of every leaf.
	KeyID []byte
	// RawSubject is the subject in DER: the issuer of every leaf.
	RawSubject []byte
	// ChainFor returns the certificates to publish after a leaf, PEM: the path depends on the leaf's names and usages.
	ChainFor func(leaf *x509.Certificate) []byte
	// Anchors are the trust anchors, PEM.
	Anchors []byte
	// Notes are sentences about what the authority cannot issue and what some peers do not accept.
	Notes []string
}

// KeyPairs turns key pairs into authorities.
type KeyPairs interface {
	// Parse checks a key pair (PEM; anchors may be empty) and returns its authority as of now. Every error has class Permanent.
	Parse(crt, key, anchors []byte, constraints Constraints, now time.Time) (*Authority, error)
	// Make creates the key pair of a self-signed authority.
	Make(root Root, now time.Time) (crt []byte, key credential.Sensitive, err error)
}
