// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package certificate

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

const (
	// idDigits of a hash distinguish the requests for two keys.
	idDigits = 16
	// maxAhead is how far the clock of an asynchronous issuer may be ahead of rekey's.
	maxAhead = 5 * time.Minute
)

// Source is the credential.Source for a certificate that an authority signs. Only readers of the Secret ever know a version, so
// nothing has to be retired.
type Source struct {
	Authority *issuer.Authority
	// Wanted is what the certificate must show, as Require returns it.
	Wanted pki.Identity
	// UID is that of the object.
	UID string
	// Now returns the time.
	Now func() time.Time
}

var _ credential.Source = (*Source)(nil)

// Require returns what a certificate of the authority must show: what is wanted, and which key signs, as far as that is known.
func Require(wanted pki.Identity, authority *issuer.Authority) pki.Identity {
	wanted.AuthorityKeyID = authority.KeyID
	wanted.Habits = pki.Habits{Backdate: authority.Backdate, MayAdd: pki.Usages(authority.MayAdd)}
	return wanted
}

// TraitsOf returns the traits of the authority's certificates. An asynchronous issuer answers a request that it may have received
// from an earlier process, so the candidate is Durable: the key is recorded before the request is sent.
//
// The authority is nil if it is missing or not ready. Then it is not known to be asynchronous, but no candidate is created either:
// Durable then means only that there is a recorded candidate, which must not be lost.
func TraitsOf(authority *issuer.Authority, recorded bool) credential.Traits {
	if authority == nil {
		return credential.Traits{Durable: recorded}
	}
	return credential.Traits{Durable: authority.Asynchronous}
}

// Traits implements credential.Source.
func (s *Source) Traits() credential.Traits { return TraitsOf(s.Authority, false) }

// Propose creates a new key and a request for it. A key is never reused.
func (s *Source) Propose(credential.Ref) (credential.Material, error) {
	key, request, err := pki.NewKeyAndRequest(s.Wanted.KeyAlgorithm, s.Wanted.Names)
	if err != nil {
		return nil, err
	}
	return credential.Material{credential.KeyPrivateKey: key, credential.KeyRequest: credential.NewSensitive(request)}, nil
}

// Stage has the authority sign the request. An error of class Permanent means that the authority never will.
func (s *Source) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	if err := s.whole(change.Material); err != nil {
		return credential.Staged{}, err
	}
	if err := change.Confirm(ctx); err != nil {
		return credential.Staged{}, err
	}
	usages := make([]issuer.Usage, 0, len(s.Wanted.Usages))
	for _, usage := range s.Wanted.Usages {
		usages = append(usages, issuer.Usage(usage))
	}
	csr := change.Material[credential.KeyRequest].Reveal()
	chain, err := s.Authority.Issue(ctx, issuer.Request{
		ID: s.requestID(change.Ref, csr), CSR: csr, Names: issuer.Names(s.Wanted.Names), Usages: usages, Lifetime: s.Wanted.Lifetime, Now: s.Now(),
	})
	if err != nil {
		return credential.Staged{}, err
	}
	out := change.Material.Clone()
	delete(out, credential.KeyRequest)
	out = out.With(credential.KeyCertificate, chain.Certificates).With(credential.KeyAuthority, chain.Authorities)
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		return credential.Staged{}, fault.Permanent(fault.CertificateInvalid, fmt.Errorf("the issued certificate: %w", err))
	}
	notAfter := certificates[0].NotAfter.UTC()
	if !s.Now().Before(notAfter) {
		return credential.Staged{}, fault.Permanent(fault.CertificateInvalid, fmt.Errorf(
			"the certificate that the authority issued expired at %s, before it was received: compare the authority's clock with rekey's", pki.Instant(notAfter)))
	}
	return credential.Staged{Material: out, NotAfter: notAfter}, nil
}

// whole checks that the recorded request is for the recorded key: an edited one would be certified for an unknown key. A
// synchronous issuer signs what was created a moment ago.
func (s *Source) whole(m credential.Material) error {
	if !s.Authority.Asynchronous {
		return nil
	}
	request, err := pki.ParseRequest(m[credential.KeyRequest].Reveal())
	if err != nil {
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("the recorded request: %w", err))
	}
	key, err := pki.ParseKey(m[credential.KeyPrivateKey].Reveal())
	if err != nil {
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("the recorded private key: %w", err))
	}
	if public, ok := request.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return fault.Permanent(fault.LedgerInvalid, errors.New("the recorded request is for another private key"))
	}
	return nil
}

// requestID identifies a request. A version's number is not enough: the next version after a discarded one may have the same number.
func (s *Source) requestID(ref credential.Ref, csr []byte) string {
	sum := sha256.Sum256(csr)
	return fmt.Sprintf("%s/%d/%s", s.UID, ref.Seq, hex.EncodeToString(sum[:])[:idDigits])
}

// Verify checks the certificate as far as possible without its peers, up to a handshake in memory. A defect of a certificate that was
// signed at once is an error, not a rejection: another one of the same authority would have it too. The certificate of an asynchronous
// issuer is recorded, so a defect is a rejection: whatever the issuer or its operators correct, this certificate keeps it.
//
// The clock of an asynchronous issuer may be ahead of rekey's, and not every issuer backdates. If nothing else is wrong, its certificate
// waits until it is valid: it is recorded, so it is still there then. A synchronous issuer would only get another request.
func (s *Source) Verify(ctx context.Context, _ credential.Ref, m credential.Material) (credential.Answer, error) {
	candidate := pki.Candidate{Material: m, Identity: s.Wanted, Now: s.Now()}
	if s.Authority.Asynchronous {
		// It was signed at some time since it was requested; it is still valid, so that was within its lifetime.
		candidate.Since = candidate.Now.Add(-s.Wanted.Lifetime)
	}
	if permitter, ok := s.Authority.Issuer.(issuer.Permitter); ok {
		candidate.Permit = permitter.Permit
	}
	wait := s.waitFor(m, candidate.Now)
	until := candidate.Now.Add(wait)
	candidate.Now = until
	err := pki.Lint(ctx, candidate)
	switch {
	case err != nil && s.Authority.Asynchronous && fault.Classify(err) == fault.ClassPermanent:
		return credential.Rejected, err
	case err != nil:
		return credential.Unknown, err
	case wait > maxAhead:
		return credential.Unknown, fault.Permanent(fault.CertificateInvalid, fmt.Errorf(
			"the certificate is not valid before %s: the clock of the issuer or of rekey is wrong", pki.Instant(until)))
	case wait > 0:
		return credential.Unknown, fault.Pending(wait, fmt.Errorf(
			"the certificate is not valid before %s, because the issuer's clock is ahead; it is published then", pki.Instant(until)))
	}
	return credential.Accepted, nil
}

// waitFor returns how long after now the certificate of an asynchronous issuer becomes valid; 0 for every other certificate.
func (s *Source) waitFor(m credential.Material, now time.Time) time.Duration {
	leaf := Leaf(m)
	if leaf == nil || !s.Authority.Asynchronous {
		return 0
	}
	return max(leaf.NotBefore.Sub(now), 0)
}

// Retire implements credential.Source. It does nothing: no remote system accepts or refuses the version.
func (s *Source) Retire(context.Context, credential.Change) error { return nil }
