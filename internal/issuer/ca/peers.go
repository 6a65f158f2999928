// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// peerNotes returns sentences about peers that refuse what the authority issues, although Go and rekey accept it.
func (a *Authority) peerNotes(path pki.Path, now time.Time) []string {
	out := strictNotes(path)
	for _, one := range a.choices(path, now) {
		for depth := range one.Certificates {
			if rival, why := a.rival(one, depth, now); rival != nil {
				return append(out, fmt.Sprintf("OpenSSL may use %s in ca.crt rather than another certificate with the same name, and it %s: remove it from ca.crt, or peers that use OpenSSL may refuse the path.",
					pki.Describe(rival), why))
			}
		}
	}
	return out
}

// choices returns the given path and, if it does not suit every leaf, the other valid ones.
func (a *Authority) choices(path pki.Path, now time.Time) []pki.Path {
	out := []pki.Path{path}
	if len(path.Usages) > 1 && !path.Constrained() {
		return out
	}
	for _, other := range a.paths {
		if other.ValidAt(now) {
			out = append(out, other)
		}
	}
	return out
}

// rival returns a trust anchor that OpenSSL may use instead of the certificate at that depth of the path, because it has the same
// name, and why that fails. OpenSSL prefers a trusted and valid certificate, and does not backtrack to try another.
func (a *Authority) rival(path pki.Path, depth int, now time.Time) (rival *x509.Certificate, why string) {
	above := path.Certificates[depth]
	trusted, last := false, (*x509.Certificate)(nil)
	for _, anchor := range a.anchors {
		switch {
		case anchor.Equal(above):
			trusted = true
			continue
		case !bytes.Equal(anchor.RawSubject, above.RawSubject):
			continue
		case !bytes.Equal(anchor.RawSubjectPublicKeyInfo, above.RawSubjectPublicKeyInfo):
			if depth > 0 && (len(path.Certificates[depth-1].AuthorityKeyId) == 0 || len(anchor.SubjectKeyId) == 0) {
				return anchor, "has another key, which no key identifier distinguishes"
			}
			continue
		case (anchor.MaxPathLen > 0 || anchor.MaxPathLenZero) && anchor.MaxPathLen < depth:
			return anchor, fmt.Sprintf("has the path length %d", anchor.MaxPathLen)
		case limits(anchor, path.Usages):
			return anchor, "has an extended key usage that the path does not have"
		case limitsNames(anchor, above):
			return anchor, "has name constraints that the path does not have"
		}
		if last == nil || anchor.NotAfter.After(last.NotAfter) {
			last = anchor
		}
	}
	switch {
	case last == nil || trusted:
		return nil, ""
	case last.NotBefore.After(now):
		return last, "is not valid before " + last.NotBefore.UTC().Format(time.RFC3339)
	case last.NotAfter.Before(path.NotAfter):
		return last, fmt.Sprintf("expires at %s, before the path does", last.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil, ""
}

// limitsNames reports whether a certificate has name constraints that another one with its name and key does not have.
func limitsNames(certificate, other *x509.Certificate) bool {
	constraints := pki.NameConstraints(certificate)
	return len(constraints) > 0 && !bytes.Equal(constraints, pki.NameConstraints(other))
}

// limits reports whether the extended key usage of a certificate excludes one of the usages.
func limits(certificate *x509.Certificate, usages []pki.Usage) bool {
	return slices.ContainsFunc(usages, func(usage pki.Usage) bool {
		return (pki.Path{Certificates: []*x509.Certificate{certificate}}).Limiting(usage) != nil
	})
}

// serverNotes returns a sentence about servers that cannot use what the authority issues.
func (a *Authority) serverNotes(usages []issuer.Usage) []string {
	if _, ok := a.certificate.PublicKey.(ed25519.PublicKey); !ok || !slices.Contains(usages, issuer.ServerAuth) {
		return nil
	}
	return []string{"It signs with Ed25519, for which TLS channel binding is not defined, so libpq by default, and rekey, refuse a PostgreSQL server with a certificate from it: " +
		"use an authority with an ECDSA or RSA key for PostgreSQL servers."}
}
