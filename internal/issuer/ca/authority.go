// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// minimumLeft is the least that a path must still live for a certificate to be worth issuing.
const minimumLeft = time.Minute

// Authority is a certificate authority whose key we hold. It is parsed once and then only read, also concurrently.
type Authority struct {
	signer crypto.Signer
	// certificate is the first of tls.crt: it names the signer of every leaf.
	certificate *x509.Certificate
	// keyID is its subject key identifier, or what it would be: the authority key identifier of every leaf.
	keyID []byte
	// paths lead from it, or from another certificate of its name and key, to the trust anchors. Which one counts depends
	// on the instant.
	paths pki.Paths
	// anchors is what is trusted; none where the Secret has no ca.crt, and the path ends at what is.
	anchors []*x509.Certificate
	// notes are about what was read and is not used.
	notes []string
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
	// Notes say what peers may not accept, and what cannot be issued.
	Notes []string
}

// Info tells what a status shows at an instant.
func (a *Authority) Info(now time.Time) Info {
	path := a.path(now)
	signing := path.Certificates[0]
	return Info{
		SHA256:        pki.SHA256(signing),
		Subject:       signing.Subject.String(),
		NotBefore:     signing.NotBefore.UTC(),
		NotAfter:      signing.NotAfter.UTC(),
		ChainNotAfter: path.NotAfter.UTC(),
		KeyID:         bytes.Clone(a.keyID),
		Anchors:       a.anchorsPEM(path),
		Notes:         slices.Concat(a.peerNotes(path, now), a.notes),
	}
}

// Parse reads a key pair as a Secret holds it: crt is tls.crt (the certificate that signs first, and those that lead up to
// a trust anchor, in any order), key is tls.key, anchors is ca.crt and may be empty. It checks everything but the time, which
// Check looks at. An error has class Permanent and reason AuthorityInvalid or UnsupportedAlgorithm, and shows nothing of
// the key.
func Parse(crt, key, anchors []byte) (*Authority, error) {
	chain, err := pki.ParseBundle(crt)
	if err != nil {
		return nil, invalid("tls.crt %w", err)
	}
	signer, err := pki.ParseKey(key)
	if err != nil {
		return nil, invalid("tls.key: %w", err)
	}
	if len(chain.Unreadable) > 0 && chain.Unreadable[0].Place == 1 {
		return nil, invalid("the first certificate in tls.crt (%s) %w", chain.Unreadable[0], chain.Unreadable[0].Err)
	}
	a := &Authority{signer: signer, certificate: chain.Certificates[0]}
	if err := a.checkKey(chain.Certificates); err != nil {
		return nil, err
	}
	var trusted pki.Bundle
	if len(anchors) > 0 {
		if trusted, err = pki.ParseBundle(anchors); err != nil {
			return nil, invalid("ca.crt %w", err)
		}
	}
	if a.paths, err = pki.SearchPaths(a.certificate, chain, trusted); err != nil {
		return nil, invalid("%w", err)
	}
	a.trust(trusted)
	if written := len(pki.EncodeCertificates(a.anchors...)); written > pki.MaxCertificateBytes {
		return nil, invalid("ca.crt is %d bytes long once its lines have 64 characters each, as they are published; at most %d are read: remove certificates", written, pki.MaxCertificateBytes)
	}
	return a, nil
}

// checkKey checks that the key is that of the first certificate, and sets how leaves name it. A certificate without a subject
// key identifier is found by its name; its leaves still get the authority key identifier that each must have, which is the one
// that openssl gives the key when it is signed again.
func (a *Authority) checkKey(certificates []*x509.Certificate) error {
	for i, certificate := range certificates {
		public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(a.signer.Public()) {
			continue
		}
		if i > 0 {
			return invalid("tls.key is not the key of the first certificate in tls.crt (%s), but of %s: put that one first", pki.Describe(a.certificate), pki.Describe(certificate))
		}
		if a.keyID = certificate.SubjectKeyId; len(a.keyID) > 0 {
			return nil
		}
		var err error
		if a.keyID, err = pki.ClassicKeyID(certificate.PublicKey); err != nil {
			return invalid("%w", err)
		}
		return nil
	}
	return invalid("tls.key is not the key of the first certificate in tls.crt (%s)", pki.Describe(a.certificate))
}

// trust takes the trust anchors that the Secret has. What is no authority cannot be one, and is left out.
func (a *Authority) trust(given pki.Bundle) {
	left := len(given.Unreadable)
	for _, certificate := range given.Certificates {
		if certificate.Version >= 3 && !certificate.IsCA {
			left++
			continue
		}
		a.anchors = append(a.anchors, certificate)
	}
	if left > 0 {
		a.notes = append(a.notes, fmt.Sprintf("%d of the %d certificates in ca.crt are left out, since they are no authorities or Go cannot read them.",
			left, len(given.Certificates)+len(given.Unreadable)))
	}
}

// path is the one that counts at an instant. Parse has found at least one.
func (a *Authority) path(now time.Time) pki.Path {
	path, _ := a.paths.At(now)
	return path
}

// pathFor returns the path that counts for the names and usages of one leaf, and cuts the leaf short where the path ends first.
// It refuses what Check and leaves refuse.
func (a *Authority) pathFor(leaf *x509.Certificate, request issuer.Request) (pki.Path, error) {
	subject, err := asn1.Marshal(leaf.Subject.ToRDNSequence())
	if err != nil {
		return pki.Path{}, fault.Permanent(fault.IdentityInvalid, fmt.Errorf("encoding the subject: %w", err))
	}
	named := *leaf
	named.RawSubject = subject
	path, _ := a.paths.For(&named, request.Now)
	if err := checkPath(path, request.Now); err != nil {
		return pki.Path{}, err
	}
	if err := leaves(path, request.Usages); err != nil {
		return pki.Path{}, err
	}
	if leaf.NotAfter.After(path.NotAfter) {
		leaf.NotAfter = path.NotAfter
	}
	return path, nil
}

// chainFor returns what is published behind a leaf at an instant, PEM.
func (a *Authority) chainFor(leaf *x509.Certificate, now time.Time) []byte {
	path, _ := a.paths.For(leaf, now)
	return pki.EncodeCertificates(path.Published()...)
}

func (a *Authority) anchorsPEM(path pki.Path) []byte {
	if len(a.anchors) == 0 {
		return pki.EncodeCertificates(path.Anchor())
	}
	return pki.EncodeCertificates(a.anchors...)
}

// usageNotes say which of the usages the extended key usages along every path take away. It is an error where none is left.
func (a *Authority) usageNotes(usages []issuer.Usage, now time.Time) ([]string, error) {
	var out []string
	for _, usage := range usages {
		if limiting := a.paths.Limiting(pki.Usage(usage), now); limiting != nil {
			out = append(out, fmt.Sprintf("It cannot issue certificates for %s: the extended key usage of %s does not include it.", usage, pki.Describe(limiting)))
		}
	}
	if len(out) > 0 && len(out) == len(usages) {
		return nil, invalid("the extended key usage of %s includes none of constraints.usages, %s: change constraints.usages, or have the certificate signed again",
			pki.Describe(a.paths.Limiting(pki.Usage(usages[0]), now)), allowed(usages))
	}
	return out, nil
}

// strictNotes say what strict peers refuse.
func strictNotes(path pki.Path) []string {
	findings := path.Strict()
	if len(findings) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("Strict peers (Python 3.13, openssl -x509_strict) refuse it: %s; to satisfy them, sign the same key again as docs/runbooks/AuthorityInvalid.md shows.",
		strings.Join(findings, ", "))}
}

// Check tells whether the authority can sign at the instant now, and for at least a minute more. An error has class
// Permanent, and reason AuthorityExpired if the authority or one above it has expired or is about to, AuthorityInvalid if
// one of them is not valid yet.
func (a *Authority) Check(now time.Time) error { return checkPath(a.path(now), now) }

func checkPath(path pki.Path, now time.Time) error {
	if now.Before(path.NotBefore) {
		// The instant now is not said: a message that changes at each look is a write at each look.
		return invalid("the certificate %s is not valid before %s; check the clocks", pki.Describe(path.First), pki.Instant(path.NotBefore))
	}
	if left := path.NotAfter.Sub(now); left < minimumLeft {
		word := "expires"
		if left < 0 {
			word = "has expired"
		}
		return fault.Permanent(fault.AuthorityExpired, fmt.Errorf("the certificate %s %s at %s; renew the authority", pki.Describe(path.Last), word, pki.Instant(path.NotAfter)))
	}
	return nil
}

// invalid has the reason AuthorityInvalid, unless the cause is an algorithm that is not supported.
func invalid(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if fault.ReasonOf(err, "") == fault.UnsupportedAlgorithm {
		return fault.Permanent(fault.UnsupportedAlgorithm, err)
	}
	return fault.Permanent(fault.AuthorityInvalid, err)
}
