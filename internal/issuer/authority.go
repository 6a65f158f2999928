// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
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

// Config is what the object of an authority requests, in plain values.
type Config struct {
	// Settings is the member of the union in its spec, JSON.
	Settings []byte
	// Secret holds the values that Keys names, read from the Secret that the member names.
	Secret credential.Material
	// Constraints limit what the authority may certify.
	Constraints Constraints
	// Now is the time, UTC.
	Now time.Time
}

// Key is one value of a Secret.
type Key struct {
	Name string
	// MaxBytes is the maximum length of the value; 0 means 64 KiB.
	MaxBytes int
	// Optional values may be absent.
	Optional bool
}

// Opener opens the authorities of one member of the union in the spec. It is safe for concurrent use.
type Opener interface {
	// Keys returns the values that Open needs from the Secret that the member names; none if the member names no Secret.
	Keys() []Key
	// Open checks the configuration and returns the authority. It does not wait for a remote system: Check and Issue do that.
	// An error that only another configuration or Secret resolves has class Permanent.
	Open(ctx context.Context, config Config) (*Authority, error)
}

// Creator is an Opener whose Secret rekey itself creates, once, and keeps. All other Openers read a Secret that a user provides.
type Creator interface {
	// Create returns the content of the Secret: tls.crt and tls.key among others. tls.crt is recorded beside it, so that a lost or
	// replaced key is noticed.
	Create(settings []byte, now time.Time) (credential.Material, error)
}

// Authority is an issuer that was opened for one object.
type Authority struct {
	Issuer
	Info
	Profile
	// Anchors are the trust anchors, PEM. They replace those published with an earlier certificate; empty if they are known only
	// from the answer to a request.
	Anchors []byte
}

// Info is what a status shows about an authority, and what its certificates contain.
type Info struct {
	// SignsWith completes the sentence "It signs with ...": the key pair.
	SignsWith string
	// SHA256, Subject and NotBefore are those of the certificate that signs; NotAfter is the earliest of its chain.
	SHA256, Subject     string
	NotBefore, NotAfter time.Time
	// RawSubject is the subject in DER: the issuer of every leaf. Empty if it is not known in advance.
	RawSubject []byte
	// Notes are sentences about what the authority cannot issue, and about peers that do not accept what it issues.
	Notes []string
}

// Profile holds the habits of an issuer. What it names is not a defect of a certificate, and not a difference from the request.
type Profile struct {
	// Backdate is how long before its time of issue a certificate becomes valid.
	Backdate time.Duration
	// MayAdd are the usages that the issuer may add to those requested. The right to sign certificates is never accepted.
	MayAdd Usages
	// KeyID is the authority key identifier of every leaf. Nil if it is not known in advance, or if several keys sign: then it is not
	// compared.
	KeyID []byte
	// Asynchronous is true if Issue may return fault.Pending. The private key is then recorded before the first request, and every
	// request for it has the same ID. The time of issue is recorded too, because the certificate's dates do not show it.
	Asynchronous bool
}

// Usages are key usages and extended key usages, as a certificate holds them.
type Usages struct {
	Key      x509.KeyUsage
	Extended []x509.ExtKeyUsage
}
