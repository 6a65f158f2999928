// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/material"
)

const (
	// maxChain bounds the certificates in an authority's tls.crt.
	maxChain = 10
	// minimumLeft is the least that a chain must still live for a certificate to be worth issuing.
	minimumLeft = time.Minute
)

// Authority is a certificate authority whose key we hold. It is parsed once and then only read, also concurrently.
type Authority struct {
	signer      crypto.Signer
	certificate *x509.Certificate
	// chain is what is published behind a leaf, and anchors is what is trusted; both also as PEM.
	chain      []*x509.Certificate
	chainPEM   []byte
	anchors    []*x509.Certificate
	anchorsPEM []byte
	// notBefore and notAfter are what is left when the validity of the certificate, the chain and the anchor is laid
	// upon each other; first and last are the certificates that decide it.
	notBefore, notAfter time.Time
	first, last         *x509.Certificate
}

// Info is what a status shows of an authority.
type Info struct {
	// SHA256, Subject, NotBefore and NotAfter are those of the certificate that signs.
	SHA256              string
	Subject             string
	NotBefore, NotAfter time.Time
	// ChainNotAfter is the first instant at which it or a certificate above it expires: no leaf outlives it.
	ChainNotAfter time.Time
	// KeyID is the subject key identifier: the authority key identifier of every leaf.
	KeyID []byte
	// Anchors are the trust anchors, PEM: ca.crt of every identity.
	Anchors []byte
}

// Info tells what a status shows.
func (a *Authority) Info() Info {
	return Info{
		SHA256:        material.SHA256(a.certificate),
		Subject:       a.certificate.Subject.String(),
		NotBefore:     a.certificate.NotBefore.UTC(),
		NotAfter:      a.certificate.NotAfter.UTC(),
		ChainNotAfter: a.notAfter.UTC(),
		KeyID:         bytes.Clone(a.certificate.SubjectKeyId),
		Anchors:       bytes.Clone(a.anchorsPEM),
	}
}

// Parse reads a key pair as a Secret holds it: crt is tls.crt (the certificate that signs first, then those above it),
// key is tls.key, anchors is ca.crt and may be empty. It checks everything but the time, which Check looks at. An error
// has class Permanent and reason AuthorityInvalid, and shows nothing of the key.
func Parse(crt, key, anchors []byte) (*Authority, error) {
	certificates, err := material.ParseCertificates(crt)
	if err != nil {
		return nil, invalid("tls.crt %w", err)
	}
	if len(certificates) > maxChain {
		return nil, invalid("tls.crt holds %d certificates; a chain has at most %d", len(certificates), maxChain)
	}
	signer, err := material.ParseKey(key)
	if err != nil {
		return nil, invalid("tls.key: %w", err)
	}
	public, ok := certificates[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(signer.Public()) {
		return nil, invalid("tls.key is not the key of the first certificate in tls.crt (%s)", material.Describe(certificates[0]))
	}
	if err := checkChain(certificates); err != nil {
		return nil, err
	}
	a := &Authority{signer: signer, certificate: certificates[0]}
	if err := a.anchor(certificates, anchors); err != nil {
		return nil, err
	}
	a.chainPEM = material.EncodeCertificates(a.chain...)
	a.anchorsPEM = material.EncodeCertificates(a.anchors...)
	return a, nil
}

// checkChain checks that each certificate may sign, and has signed, the one before it, and that the path may be long
// enough for one leaf below (RFC 5280, sections 4.2.1.3, 4.2.1.9 and 6.1).
func checkChain(certificates []*x509.Certificate) error {
	for i, certificate := range certificates {
		if err := maySign(certificate); err != nil {
			return invalid("certificate %d in tls.crt (%s) %w", i+1, material.Describe(certificate), err)
		}
		limited := certificate.MaxPathLen > 0 || certificate.MaxPathLenZero
		if limited && certificate.MaxPathLen < i {
			return invalid("certificate %d in tls.crt (%s) has the path length %d, which does not allow %d authorities below it",
				i+1, material.Describe(certificate), certificate.MaxPathLen, i)
		}
		if i == 0 {
			continue
		}
		if err := certificates[i-1].CheckSignatureFrom(certificate); err != nil {
			return invalid("certificate %d in tls.crt (%s) has not signed the one before it; the certificate that signs comes first, and each one after it has signed the one before: %w",
				i+1, material.Describe(certificate), err)
		}
	}
	if len(certificates[0].SubjectKeyId) == 0 {
		return invalid("the certificate %s has no subject key identifier, which every authority must have (RFC 5280, section 4.2.1.2); make it again with subjectKeyIdentifier=hash", material.Describe(certificates[0]))
	}
	return nil
}

func maySign(certificate *x509.Certificate) error {
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return errors.New("is not an authority: its basic constraints lack CA:TRUE")
	case certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not sign certificates: its key usage lacks keyCertSign")
	case len(certificate.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("has critical extensions that TLS peers do not know: %v", certificate.UnhandledCriticalExtensions)
	}
	return nil
}

// anchor decides what is published and what is trusted (see the package comment), and between when.
func (a *Authority) anchor(certificates []*x509.Certificate, given []byte) error {
	top := certificates[len(certificates)-1]
	a.chain = certificates
	a.anchors = []*x509.Certificate{top}
	if selfIssued(top) {
		if err := checkRoot(top); err != nil {
			return err
		}
		a.chain = certificates[:len(certificates)-1]
	}
	trusted := top
	if len(bytes.TrimSpace(given)) > 0 {
		var err error
		if a.anchors, err = material.ParseCertificates(given); err != nil {
			return invalid("ca.crt %w", err)
		}
		if trusted, err = findAnchor(a.anchors, top); err != nil {
			return err
		}
	}
	a.notBefore, a.notAfter = trusted.NotBefore, trusted.NotAfter
	a.first, a.last = trusted, trusted
	for _, certificate := range certificates {
		if certificate.NotBefore.After(a.notBefore) {
			a.notBefore, a.first = certificate.NotBefore, certificate
		}
		if certificate.NotAfter.Before(a.notAfter) {
			a.notAfter, a.last = certificate.NotAfter, certificate
		}
	}
	return nil
}

// findAnchor picks the anchor that the chain ends at; of several the one that lives longest.
func findAnchor(anchors []*x509.Certificate, top *x509.Certificate) (*x509.Certificate, error) {
	var best *x509.Certificate
	for i, candidate := range anchors {
		if err := maySign(candidate); err != nil {
			return nil, invalid("certificate %d in ca.crt (%s) %w", i+1, material.Describe(candidate), err)
		}
		signed := candidate.Equal(top) || top.CheckSignatureFrom(candidate) == nil
		if signed && (best == nil || candidate.NotAfter.After(best.NotAfter)) {
			best = candidate
		}
	}
	if best == nil {
		return nil, invalid("no certificate in ca.crt has signed the last one in tls.crt (%s), so that nobody who trusts ca.crt would trust this authority", material.Describe(top))
	}
	return best, nil
}

// selfIssued tells a root from an intermediate without trusting its signature.
func selfIssued(certificate *x509.Certificate) bool {
	return bytes.Equal(certificate.RawSubject, certificate.RawIssuer) &&
		(len(certificate.AuthorityKeyId) == 0 || bytes.Equal(certificate.AuthorityKeyId, certificate.SubjectKeyId))
}

// checkRoot refuses a damaged root. Nobody relies on the signature of a trust anchor upon itself, so one with an outdated
// hash function is let through.
func checkRoot(root *x509.Certificate) error {
	var outdated x509.InsecureAlgorithmError
	if err := root.CheckSignatureFrom(root); err != nil && !errors.As(err, &outdated) {
		return invalid("the root %s is damaged: %w", material.Describe(root), err)
	}
	return nil
}

// Check tells whether the authority can sign at the instant now, and for at least a minute more. An error has class
// Permanent, and reason AuthorityExpired if the authority or one above it has expired or is about to, AuthorityInvalid if
// one of them is not valid yet.
func (a *Authority) Check(now time.Time) error {
	if now.Before(a.notBefore) {
		// The instant now is not said: a message that changes at each look is a write at each look.
		return invalid("the certificate %s is not valid before %s; check the clocks", material.Describe(a.first), material.Instant(a.notBefore))
	}
	if left := a.notAfter.Sub(now); left < minimumLeft {
		word := "expires"
		if left < 0 {
			word = "has expired"
		}
		return fault.Permanent(fault.AuthorityExpired, fmt.Errorf("the certificate %s %s at %s; renew the authority", material.Describe(a.last), word, material.Instant(a.notAfter)))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.Permanent(fault.AuthorityInvalid, fmt.Errorf(format, args...))
}
