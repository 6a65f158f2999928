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

// Names are all names in a certificate.
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
	// ID is the same for every repetition of one request, and differs for every other CSR.
	ID string
	// CSR is a PKCS#10 request, PEM, signed by the new key. Only its public key is used.
	CSR []byte
	// Names, Usages and Lifetime are those of the certificate. The lifetime counts from Now.
	Names    Names
	Usages   []Usage
	Lifetime time.Duration
	// Now is the time of issuance, UTC.
	Now time.Time
}

// Chain is what an issuer returns.
type Chain struct {
	// Certificates, PEM: the leaf first, then the intermediates, without the root.
	Certificates []byte
	// Authorities are the trust anchors, PEM.
	Authorities []byte
}

// Issuer signs certificates. It is safe for concurrent use.
type Issuer interface {
	// Check returns an error if Issue cannot work at the time now. It changes nothing.
	Check(ctx context.Context, now time.Time) error
	// Issue signs a certificate. Before it signs, it refuses, with class Permanent, what the issuer's constraints do not allow,
	// and then checks the result against them again.
	//
	// It is idempotent on the request's ID: repeated after a lost answer, it does no harm. An issuer without state signs again, for
	// the same key; an asynchronous one returns fault.Pending until it has an answer, and then that answer, every time. A request that
	// it denies permanently has class Permanent: it is given up, and some time later there is another one, with another ID. While the
	// issuer may still sign it, the class is Pending, Blocked or Transient.
	Issue(ctx context.Context, request Request) (Chain, error)
}

// Permitter is an Issuer that can check whether it would sign a finished certificate.
type Permitter interface {
	// Permit checks the leaf against the issuer's constraints; its error names the first violated one.
	Permit(leaf *x509.Certificate) error
}

// Chainer is an Issuer whose intermediates may change while a leaf that it signed stays valid.
type Chainer interface {
	// ChainFor returns the certificates to publish after a leaf at the time now, PEM: the path depends on the leaf's names and
	// usages.
	ChainFor(leaf *x509.Certificate, now time.Time) []byte
}
