// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"crypto/x509"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Constraints say what an authority may certify. A kind of name that is not listed is denied, and so is every usage.
type Constraints struct {
	// MaxLifetime of a leaf; 0 leaves it to the lifetime of the chain.
	MaxLifetime time.Duration
	// CommonNames are patterns in which "*" stands for any run of characters.
	CommonNames []string
	// Organizations are patterns in which "*" stands for any run of characters.
	Organizations []string
	// DNSNames are host names in which a label may be "*", which stands for exactly one label.
	DNSNames []string
	// URIs are exact, or end in "/*", which stands for any longer path. Scheme and host are always exact.
	URIs []string
	// IPRanges are networks in CIDR notation.
	IPRanges []string
	// EmailDomains are the exact domains of mail addresses.
	EmailDomains []string
	// Usages that may be asked for.
	Usages []Usage
}

// Root says what a self-signed authority is to be.
type Root struct {
	CommonName   string
	KeyAlgorithm KeyAlgorithm
	// Lifetime counts from the instant of making.
	Lifetime time.Duration
}

// Authority is a certificate authority whose key we hold, and what a status shows of it.
type Authority struct {
	Issuer
	// SHA256, Subject and NotBefore are those of the certificate that signs; NotAfter is the earliest of its chain.
	SHA256, Subject     string
	NotBefore, NotAfter time.Time
	// KeyID is the subject key identifier: the authority key identifier of every leaf.
	KeyID []byte
	// RawSubject is the subject in DER: the issuer of every leaf.
	RawSubject []byte
	// ChainFor returns what is published behind a leaf, PEM: which path counts depends on its names and usages.
	ChainFor func(leaf *x509.Certificate) []byte
	// Anchors are the trust anchors, PEM.
	Anchors []byte
	// Notes are sentences about what the authority cannot issue and what some peers do not accept.
	Notes []string
}

// KeyPairs turns key pairs into authorities.
type KeyPairs interface {
	// Parse checks a key pair (PEM; anchors may be empty) and returns the authority that it makes, as it is at the instant
	// now. Every error has class Permanent.
	Parse(crt, key, anchors []byte, constraints Constraints, now time.Time) (*Authority, error)
	// Make makes the key pair of a self-signed authority.
	Make(root Root, now time.Time) (crt []byte, key credential.Sensitive, err error)
}
