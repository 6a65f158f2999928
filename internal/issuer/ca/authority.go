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

// minimumLeft is the remaining lifetime that a path must have for a certificate to be worth issuing.
const minimumLeft = time.Minute

// Authority is a certificate authority with a key that rekey holds. It is immutable, so it may be used concurrently.
type Authority struct {
	signer crypto.Signer
	// certificate is the first one in tls.crt: every leaf names it as issuer.
	certificate *x509.Certificate
	// keyID is its subject key identifier, or what that would be: the authority key identifier of every leaf.
	keyID []byte
	// paths lead from it, or from another certificate with its name and key, to the trust anchors. Which path is used depends on
	// the time.
	paths pki.Paths
	// anchors are the certificates in ca.crt; without ca.crt there are none, and the end of the path is the trust anchor.
	anchors []*x509.Certificate
	// notes are about certificates that are not used.
	notes []string
}

// Info is what a status shows about an authority.
type Info struct {
	// SHA256, Subject, NotBefore and NotAfter are those of the certificate that signs.
	SHA256              string
	Subject             string
	NotBefore, NotAfter time.Time
	// ChainNotAfter is when the first certificate of the chain expires: no leaf outlives it.
	ChainNotAfter time.Time
	// KeyID is the subject key identifier: the authority key identifier of every leaf.
	KeyID []byte
	// Anchors are the trust anchors, PEM: ca.crt of every identity.
	Anchors []byte
	// Notes are about what peers may not accept, and what cannot be issued.
	Notes []string
}

// Info returns what a status shows at the time now.
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

// Parse returns the authority of a key pair from a Secret: crt is tls.crt (the certificate that signs first, then those that lead
// to a trust anchor, in any order), key is tls.key, anchors is ca.crt and may be empty. It checks everything except the time,
// which Check does. An error has class Permanent and reason AuthorityInvalid or UnsupportedAlgorithm, and shows nothing of the
// key.
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
		return nil, invalid("ca.crt is %d bytes long when it is published with 64 characters per line, but at most %d are allowed: remove certificates", written, pki.MaxCertificateBytes)
	}
	return a, nil
}

// checkKey checks that the key is that of the first certificate, and sets the authority key identifier of leaves. A certificate
// without a subject key identifier is found by its name; its leaves still get the authority key identifier that each must have,
// which is the one that openssl computes when the key is signed again.
func (a *Authority) checkKey(certificates []*x509.Certificate) error {
	for i, certificate := range certificates {
		public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(a.signer.Public()) {
			continue
		}
		if i > 0 {
			return invalid("tls.key is not the key of the first certificate in tls.crt (%s), but of %s: put that certificate first", pki.Describe(a.certificate), pki.Describe(certificate))
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

// trust sets the trust anchors from the Secret. Certificates that are not authorities are left out.
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
		a.notes = append(a.notes, fmt.Sprintf("%d of the %d certificates in ca.crt are left out, because they are not authorities or Go cannot parse them.",
			left, len(given.Certificates)+len(given.Unreadable)))
	}
}

// path returns the path to use at the time now. Parse has found at least one.
func (a *Authority) path(now time.Time) pki.Path {
	path, _ := a.paths.At(now)
	return path
}

// pathFor returns the path for the names and usages of one leaf, and shortens the leaf if the path expires earlier. It refuses
// what Check and leaves refuse.
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

func (a *Authority) anchorsPEM(path pki.Path) []byte {
	if len(a.anchors) == 0 {
		return pki.EncodeCertificates(path.Anchor())
	}
	return pki.EncodeCertificates(a.anchors...)
}

// usageNotes returns a sentence for each usage that the extended key usages on every path exclude. If none is left, it returns an
// error.
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

// strictNotes returns a sentence about what strict peers refuse.
func strictNotes(path pki.Path) []string {
	findings := path.Strict()
	if len(findings) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("Strict peers (Python 3.13, openssl -x509_strict) refuse it: %s; to satisfy them, sign the same key again as docs/runbooks/AuthorityInvalid.md shows.",
		strings.Join(findings, ", "))}
}

// Check returns an error unless the authority can sign at the time now and for at least a minute more. The error has class
// Permanent, and reason AuthorityExpired if the authority or one above it has expired or is about to, AuthorityInvalid if one of
// them is not valid yet.
func (a *Authority) Check(now time.Time) error { return checkPath(a.path(now), now) }

func checkPath(path pki.Path, now time.Time) error {
	if now.Before(path.NotBefore) {
		// The message omits now: one that changes with each reconcile causes a write with each reconcile.
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

// invalid returns an error with reason AuthorityInvalid, or UnsupportedAlgorithm if that is the cause.
func invalid(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if fault.ReasonOf(err, "") == fault.UnsupportedAlgorithm {
		return fault.Permanent(fault.UnsupportedAlgorithm, err)
	}
	return fault.Permanent(fault.AuthorityInvalid, err)
}
