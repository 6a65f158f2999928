// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"crypto/x509"
	"net"
	"net/url"
	"time"
)

// Usage is an extended key usage (RFC 5280, section 4.2.1.12) that rekey issues.
type Usage string

// The usages.
const (
	ClientAuth Usage = "ClientAuth"
	ServerAuth Usage = "ServerAuth"
)

// KeyAlgorithm names the algorithm and size of a key.
type KeyAlgorithm string

// The algorithms. Keys are encoded as PKCS#8.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
	Ed25519   KeyAlgorithm = "Ed25519"
)

// Names is everything by which a certificate says whose it is.
type Names struct {
	CommonName     string
	Organizations  []string
	DNSNames       []string
	URIs           []*url.URL
	IPAddresses    []net.IP
	EmailAddresses []string
}

// Request asks for one certificate.
type Request struct {
	// ID is the same for every repetition of one request: an issuer that is asked twice signs twice at the most where
	// it keeps nothing, and gives the first answer again where it does.
	ID string
	// CSR is a PKCS#10 request, PEM, signed by the new key. Only its public key is taken from it.
	CSR []byte
	// Names, Usages and Lifetime are what the certificate is to have. The lifetime counts from Now.
	Names    Names
	Usages   []Usage
	Lifetime time.Duration
	// Now is the instant of issue, UTC.
	Now time.Time
}

// Chain is what an issuer answers.
type Chain struct {
	// Certificates, PEM: the leaf first, then the intermediates, without the root.
	Certificates []byte
	// Authorities are the trust anchors, PEM.
	Authorities []byte
}

// Issuer signs certificates.
type Issuer interface {
	// Check tells whether Issue can work at the instant now. It changes nothing.
	Check(ctx context.Context, now time.Time) error
	// Issue signs. It refuses, with class Permanent, what the issuer's constraints do not allow, before it signs, and
	// checks the result against them again.
	Issue(ctx context.Context, request Request) (Chain, error)
}

// Permitter is an Issuer that can tell whether a finished certificate is one that it would sign.
type Permitter interface {
	// Permit checks the leaf against the issuer's constraints, and names the first that does not hold.
	Permit(leaf *x509.Certificate) error
}
