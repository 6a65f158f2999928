// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/rotation"
)

// certificateSource is the Source of a certificate that an authority signs. Only readers of the Secret ever know a version, so
// nothing has to be retired, or recorded ahead.
type certificateSource struct {
	authority *issuer.Authority
	wanted    pki.Identity
	uid       string
	clock     clock.PassiveClock
}

// Traits implements credential.Source.
func (s *certificateSource) Traits() credential.Traits { return credential.Traits{} }

// Propose creates a new key and a request for it. A key is never reused.
func (s *certificateSource) Propose(credential.Ref) (credential.Material, error) {
	key, request, err := pki.NewKeyAndRequest(s.wanted.KeyAlgorithm, s.wanted.Names)
	if err != nil {
		return nil, err
	}
	return credential.Material{credential.KeyPrivateKey: key, credential.KeyRequest: credential.NewSensitive(request)}, nil
}

// Stage has the authority sign the request.
func (s *certificateSource) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	usages := make([]issuer.Usage, 0, len(s.wanted.Usages))
	for _, usage := range s.wanted.Usages {
		usages = append(usages, issuer.Usage(usage))
	}
	names := s.wanted.Names
	chain, err := s.authority.Issue(ctx, issuer.Request{
		ID:  fmt.Sprintf("%s/%d", s.uid, change.Ref.Seq),
		CSR: change.Material[credential.KeyRequest].Reveal(),
		Names: issuer.Names{CommonName: names.CommonName, Organizations: names.Organizations, DNSNames: names.DNSNames,
			URIs: names.URIs, IPAddresses: names.IPAddresses, EmailAddresses: names.EmailAddresses},
		Usages: usages, Lifetime: s.wanted.Lifetime, Now: s.clock.Now().UTC(),
	})
	if err != nil {
		return credential.Staged{}, err
	}
	out := change.Material.Clone()
	delete(out, credential.KeyRequest)
	out = out.With(credential.KeyCertificate, chain.Certificates).With(credential.KeyAuthority, chain.Authorities)
	notAfter, err := notAfterOf(out)
	return credential.Staged{Material: out, NotAfter: notAfter}, err
}

// Verify checks the certificate as far as possible without its peers, up to a handshake in memory. A defect is an error, not a
// rejection: another certificate of the same authority would have it too.
func (s *certificateSource) Verify(ctx context.Context, _ credential.Ref, m credential.Material) (credential.Answer, error) {
	candidate := pki.Candidate{Material: m, Identity: s.wanted, Now: s.clock.Now().UTC()}
	if permitter, ok := s.authority.Issuer.(issuer.Permitter); ok {
		candidate.Permit = permitter.Permit
	}
	if err := pki.Lint(ctx, candidate); err != nil {
		return credential.Unknown, err
	}
	return credential.Accepted, nil
}

// Retire implements credential.Source. It does nothing: no remote system knows the version.
func (s *certificateSource) Retire(context.Context, credential.Change) error { return nil }

// wantedIdentity returns what the spec requires of a certificate, except the authority.
func wantedIdentity(parts identityObject) (pki.Identity, error) {
	spec := parts.spec
	out := pki.Identity{KeyAlgorithm: pki.KeyAlgorithm(spec.KeyAlgorithm), Lifetime: spec.Lifetime.Duration, Habits: pki.Habits{Backdate: pki.Backdate}}
	for _, usage := range parts.usages {
		out.Usages = append(out.Usages, pki.Usage(usage))
	}
	names, err := pki.ParseNames(spec.CommonName, texts(spec.Organizations), texts(spec.DNSNames), texts(spec.URIs),
		texts(spec.IPAddresses), texts(spec.EmailAddresses))
	if err != nil {
		return out, err
	}
	out.Names = names
	return out, nil
}

func texts[T ~string](in []T) []string {
	out := make([]string, 0, len(in))
	for _, text := range in {
		out = append(out, string(text))
	}
	return out
}

// certificateVersion reads a version from a published certificate. fingerprint is that of wanted. If the authority is unknown,
// the certificate's own authority key takes its place: a missing authority is no reason to reissue. A certificate that does not
// verify with the ca.crt beside it is still a version, with a different fingerprint: its expiry is watched even if no
// certificate can be issued now. The same applies if the authority has changed its name but not its key: a peer that trusts
// only the authority's new certificate cannot find the issuer of this one.
func certificateVersion(m credential.Material, wanted pki.Identity, authority *issuer.Authority, fingerprint string, now time.Time) (rotation.Version, error) {
	published, err := readPublished(m)
	if err != nil {
		return rotation.Version{}, err
	}
	leaf := published.Leaf
	version := rotation.Version{
		ProposedAt: pki.IssuedAt(leaf), CommittedAt: pki.IssuedAt(leaf), NotAfter: leaf.NotAfter.UTC(), Fingerprint: fingerprint,
	}
	if wanted.AuthorityKeyID == nil {
		wanted.AuthorityKeyID = leaf.AuthorityKeyId
	}
	// A certificate without a path has no ceiling, and outlives any.
	ceiling, _ := published.Ceiling(now)
	if len(pki.Diff(leaf, wanted, ceiling)) > 0 {
		version.Fingerprint = pki.CertificateFingerprint(leaf, wanted, ceiling)
	}
	if authority != nil && !bytes.Equal(leaf.RawIssuer, authority.RawSubject) {
		version.Fingerprint += "/another issuer"
	}
	return version, nil
}

// readPublished reads the certificates of a user's Secret. A missing or damaged ca.crt counts as empty.
func readPublished(m credential.Material) (*pki.TLSSecret, error) {
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

// vouched reports whether the certificate in the user's Secret verifies with a trust anchor in its ca.crt.
func vouched(m credential.Material, now time.Time) bool {
	published, err := readPublished(m)
	if err != nil {
		return false
	}
	_, ok := published.Path(now)
	return ok
}

// notAfterOf returns when staged material expires.
func notAfterOf(m credential.Material) (time.Time, error) {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil {
		return time.Time{}, fault.Permanent(fault.CertificateInvalid, fmt.Errorf("the issued certificate: %w", err))
	}
	return chain[0].NotAfter.UTC(), nil
}

// leafOf returns the published certificate; nil if it cannot be read.
func leafOf(m credential.Material) *x509.Certificate {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil || len(chain) == 0 {
		return nil
	}
	return chain[0]
}

// refreshed returns the material with the authority's current trust anchors, if that authority signed the certificate: the
// anchors may change while the certificate stays valid. It also replaces the chain if the certificate verifies only with the
// authority's current chain. It adopts nothing that does not verify.
func refreshed(m credential.Material, authority *issuer.Authority, now time.Time) credential.Material {
	if authority == nil {
		return m
	}
	leaf := leafOf(m)
	if leaf == nil || !bytes.Equal(leaf.AuthorityKeyId, authority.KeyID) {
		return m
	}
	if bytes.Equal(m[credential.KeyAuthority].Reveal(), authority.Anchors) && vouched(m, now) {
		return m
	}
	anchored := m.With(credential.KeyAuthority, authority.Anchors)
	chained := anchored.With(credential.KeyCertificate, slices.Concat(pki.EncodeCertificates(leaf), authority.ChainFor(leaf)))
	for _, candidate := range []credential.Material{anchored, chained} {
		if published, err := readPublished(candidate); err == nil && published.Verify(now) == nil {
			return candidate
		}
	}
	return m
}
