// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// Published is what a published certificate shows.
type Published struct {
	IssuedAt, NotAfter time.Time
	// Fingerprint is that of the wanted certificate, unless the published one differs.
	Fingerprint string
}

// RecordsIssue reports whether the time of issue is recorded beside the authority's certificates. Certificates that rekey itself
// signs show it; others show only when they became valid.
func RecordsIssue(authority *issuer.Authority) bool {
	return authority != nil && (authority.Asynchronous || authority.Backdate != pki.Backdate)
}

// Read reads a published certificate. recorded is the time of issue that was recorded beside it; zero if none was.
//
// If the authority is unknown, the certificate's own authority key and, if the time of issue was recorded, its own habits count as
// wanted: a missing authority must not cause a reissue. A certificate that does not verify with the ca.crt beside it is still a
// version, with a different fingerprint: its expiry is watched even if no certificate can be issued now. The same applies if the
// authority has changed its name but not its key: a peer that trusts only the authority's new certificate cannot find the issuer of
// this one.
func Read(m credential.Material, wanted pki.Identity, authority *issuer.Authority, recorded, now time.Time) (Published, error) {
	published, err := parse(m)
	if err != nil {
		return Published{}, err
	}
	leaf := published.Leaf
	out := Published{IssuedAt: pki.IssuedAt(leaf), NotAfter: leaf.NotAfter.UTC(), Fingerprint: wanted.Fingerprint()}
	switch {
	case authority == nil && !recorded.IsZero():
		out.IssuedAt = recorded
		wanted.Habits = pki.Habits{Backdate: leaf.NotAfter.Sub(leaf.NotBefore) - wanted.Lifetime, MayAdd: pki.Usages{Extended: leaf.ExtKeyUsage}}
	case RecordsIssue(authority) && recorded.IsZero():
		out.IssuedAt = leaf.NotBefore.UTC() // the record was lost, and the certificate was not issued before that
	case RecordsIssue(authority):
		out.IssuedAt = recorded
	}
	// A certificate without a path has no ceiling, and outlives any.
	ceiling, _ := published.Ceiling(now)
	if len(pki.Diff(leaf, wanted, ceiling)) > 0 {
		out.Fingerprint = pki.CertificateFingerprint(leaf, wanted, ceiling)
	}
	if authority != nil && len(authority.RawSubject) > 0 && !bytes.Equal(leaf.RawIssuer, authority.RawSubject) {
		out.Fingerprint += "/another issuer"
	}
	return out, nil
}

// parse reads the certificates of a user's Secret. A missing or damaged ca.crt counts as empty.
func parse(m credential.Material) (*pki.TLSSecret, error) {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil {
		return nil, fmt.Errorf("its certificate: %w", err)
	}
	anchors, err := pki.ParseCertificates(m[credential.KeyAuthority].Reveal())
	if err != nil {
		anchors = nil
	}
	return &pki.TLSSecret{Leaf: chain[0], Intermediates: chain[1:], Authorities: anchors}, nil
}

// Verifies reports whether a path leads from the certificate in the user's Secret to a trust anchor in its ca.crt.
func Verifies(m credential.Material, now time.Time) bool {
	published, err := parse(m)
	if err != nil {
		return false
	}
	_, ok := published.Path(now)
	return ok
}

// Leaf returns the published certificate; nil if it cannot be read.
func Leaf(m credential.Material) *x509.Certificate {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil || len(chain) == 0 {
		return nil
	}
	return chain[0]
}

// Refreshed returns the material with the authority's current trust anchors, if that authority signed the certificate: the
// anchors may change while the certificate stays valid. It also replaces the chain if the certificate verifies only with the
// authority's current chain. It adopts nothing that does not verify.
func Refreshed(m credential.Material, authority *issuer.Authority, now time.Time) credential.Material {
	if authority == nil || len(authority.Anchors) == 0 {
		return m
	}
	leaf := Leaf(m)
	if leaf == nil || authority.KeyID != nil && !bytes.Equal(leaf.AuthorityKeyId, authority.KeyID) {
		return m
	}
	if bytes.Equal(m[credential.KeyAuthority].Reveal(), authority.Anchors) && Verifies(m, now) {
		return m
	}
	anchored := m.With(credential.KeyAuthority, authority.Anchors)
	candidates := []credential.Material{anchored}
	if chainer, ok := authority.Issuer.(issuer.Chainer); ok {
		chained := anchored.With(credential.KeyCertificate, slices.Concat(pki.EncodeCertificates(leaf), chainer.ChainFor(leaf, now)))
		candidates = append(candidates, chained)
	}
	for _, candidate := range candidates {
		if published, err := parse(candidate); err == nil && published.Verify(now) == nil {
			return candidate
		}
	}
	return m
}
