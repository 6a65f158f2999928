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

// certificateSource is the Source of a certificate that an authority signs. Nobody but the Secret's readers ever knows a
// version: there is nothing to retire, and nothing to write down ahead.
type certificateSource struct {
	authority *issuer.Authority
	wanted    pki.Identity
	uid       string
	clock     clock.PassiveClock
}

// Traits implements credential.Source.
func (s *certificateSource) Traits() credential.Traits { return credential.Traits{} }

// Stage has the authority sign the request.
func (s *certificateSource) Stage(ctx context.Context, ref credential.Ref, proposed credential.Material) (credential.Material, error) {
	usages := make([]issuer.Usage, 0, len(s.wanted.Usages))
	for _, usage := range s.wanted.Usages {
		usages = append(usages, issuer.Usage(usage))
	}
	names := s.wanted.Names
	chain, err := s.authority.Issue(ctx, issuer.Request{
		ID:  fmt.Sprintf("%s/%d", s.uid, ref.Seq),
		CSR: proposed[credential.KeyRequest].Reveal(),
		Names: issuer.Names{CommonName: names.CommonName, Organizations: names.Organizations, DNSNames: names.DNSNames,
			URIs: names.URIs, IPAddresses: names.IPAddresses, EmailAddresses: names.EmailAddresses},
		Usages: usages, Lifetime: s.wanted.Lifetime, Now: s.clock.Now().UTC(),
	})
	if err != nil {
		return nil, err
	}
	out := proposed.Clone()
	delete(out, credential.KeyRequest)
	return out.With(credential.KeyCertificate, chain.Certificates).With(credential.KeyAuthority, chain.Authorities), nil
}

// Verify checks the certificate as far as that can be done without its peers: the last check is a handshake in memory. A
// finding is an error and no rejection, since another certificate of the same authority would be the same.
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

// Retire implements credential.Source: nothing remote knows the version.
func (s *certificateSource) Retire(context.Context, credential.Ref) error { return nil }

// wantedIdentity is what the spec asks of a certificate, but for the authority.
func wantedIdentity(parts identityObject) (pki.Identity, error) {
	spec := parts.spec
	out := pki.Identity{KeyAlgorithm: pki.KeyAlgorithm(spec.KeyAlgorithm), Lifetime: spec.Lifetime.Duration}
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

// proposeCertificate makes a new key and the request for it. A key is never used twice.
func proposeCertificate(wanted pki.Identity) (credential.Material, error) {
	key, request, err := pki.NewKeyAndRequest(wanted.KeyAlgorithm, wanted.Names)
	if err != nil {
		return nil, err
	}
	return credential.Material{credential.KeyPrivateKey: key, credential.KeyRequest: credential.NewSensitive(request)}, nil
}

// certificateVersion reads a version from a published certificate. fingerprint is that of wanted. Where the authority is
// not known now, the certificate's own stands for it: a missing authority is no reason to issue again. A certificate that
// ca.crt beside it does not vouch for is a version all the same, and one that differs from what is wanted: its expiry is
// watched also where none can be issued now. So is one whose issuer has another name than the authority has by now, though the
// key is the same: whoever trusts the authority's new certificate does not find the issuer.
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
	// Without a path there is no ceiling, and the certificate outlives every one.
	ceiling, _ := published.Ceiling(now)
	if len(pki.Diff(leaf, wanted, ceiling)) > 0 {
		version.Fingerprint = pki.CertificateFingerprint(leaf, wanted, ceiling)
	}
	if authority != nil && !bytes.Equal(leaf.RawIssuer, authority.RawSubject) {
		version.Fingerprint += "/another issuer"
	}
	return version, nil
}

// readPublished reads the certificates of a user's Secret. A ca.crt that is missing or damaged counts as empty.
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

// vouched reports whether ca.crt in the user's Secret holds an anchor that the certificate in it leads to.
func vouched(m credential.Material, now time.Time) bool {
	published, err := readPublished(m)
	if err != nil {
		return false
	}
	_, ok := published.Path(now)
	return ok
}

// notAfterOf reads when staged material ends.
func notAfterOf(m credential.Material) (time.Time, error) {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil {
		return time.Time{}, fault.Permanent(fault.CertificateInvalid, fmt.Errorf("the issued certificate: %w", err))
	}
	return chain[0].NotAfter.UTC(), nil
}

// leafOf gives the certificate that is published, nil where it cannot be read.
func leafOf(m credential.Material) *x509.Certificate {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil || len(chain) == 0 {
		return nil
	}
	return chain[0]
}

// refreshed returns the material with the trust anchors that the authority has now, if it is the one that signed: they may
// have changed while the certificate stays good. The chain is exchanged with them where the certificate verifies only
// with the chain that the authority has now. What does not verify is not taken over.
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
