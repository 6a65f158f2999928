// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// PublishedOptions are what a Published store needs besides Options. SecretType is kubernetes.io/tls.
type PublishedOptions struct {
	Options
	// Reader may be a cache whose keys StripMaterial has removed. What it does not find is looked up live: another owner's Secret
	// is not in rekey's cache. The same as Live if there is no cache, or with Keystores.
	Reader client.Reader
	// Fresh is true if the object is so new that its Secret cannot exist yet: what the Reader does not find is not looked up.
	// If the Secret exists anyway, creating it returns AlreadyExists.
	Fresh bool
	// Candidates, if not nil, keeps a pending version in a ledger Secret that it writes, until the version is published or
	// discarded: for an issuer that answers later, or a proof that may take long. If nil, a pending version is kept in memory.
	Candidates client.Client
	// Parse returns the version of a certificate: Fingerprint, ProposedAt, CommittedAt (when it was issued) and NotAfter, but
	// not Seq and Stage. It does not read the private key, which may be a placeholder and is already known to match. An error
	// means that the certificate is damaged and is issued again. issued is when it was issued, as recorded on its Secret; zero if
	// nothing is recorded.
	Parse func(material credential.Material, issued time.Time) (rotation.Version, error)
	// RecordIssue is true if certificates do not show when they were issued: it is recorded on the Secret.
	RecordIssue bool
}

// Published keeps a certificate in the user's Secret alone: that is the truth. A pending version is kept in memory, or in a
// ledger of its own (PublishedOptions.Candidates), there is no previous one, and a missing or damaged Secret has no current
// version. One value serves one reconcile of one object.
//
// Of all request tokens, only that of rekey.dev/rotate is recorded, on the Secret.
type Published struct {
	opts   PublishedOptions
	loaded bool
	// The Secret as last read or written; nil if it does not exist. It may be stripped.
	secret  *corev1.Secret
	current *Record
	adopted string
	// keystoresWritten is true if keystores were written for a version that was published before.
	keystoresWritten bool
	// candidate is the ledger of the pending version, if it is kept in one.
	candidate candidate
	// memory holds what the user's Secret does not hold, and the tokens: the Secret's, until the caller saves others.
	memory     Ledger
	remembered bool
}

// NewPublished returns a store. Nothing is read before Load.
func NewPublished(opts PublishedOptions) *Published {
	s := &Published{opts: opts}
	s.candidate.opts = &s.opts
	return s
}

// Load reads the user's Secret, and the ledger of the pending version, if it is kept in one. The private key of the current version may be a placeholder, which is never written.
func (s *Published) Load(ctx context.Context) (Snapshot, error) {
	s.loaded = false
	secret, err := read(ctx, s.opts.Reader, s.opts.secretKey())
	if err == nil && (secret == nil && !s.opts.Fresh || secret != nil && !restore(secret)) {
		if secret, err = read(ctx, s.opts.Live, s.opts.secretKey()); secret != nil {
			noteBundle(secret)
		}
	}
	if err == nil {
		err = s.candidate.load(ctx)
	}
	if err == nil {
		err = s.opts.present(ctx, secret, s.candidate.secret)
	}
	if err != nil {
		return Snapshot{}, err
	}
	if s.candidate.durable() {
		s.memory, s.remembered = s.candidate.ledger.Clone(), false
	}
	s.see(secret)
	if s.candidate.settle(ctx, s.current); s.candidate.durable() {
		s.memory.Pending = s.candidate.ledger.Pending.clone()
	}
	s.loaded = true
	return s.snapshot(), nil
}

// Save writes the user's Secret if the current version or the honored token differs from what it shows, and keeps the rest in
// memory or in the ledger of the pending version. A version whose certificate cannot be parsed, or whose key does not match, is
// not written.
func (s *Published) Save(ctx context.Context, ledger Ledger) (Snapshot, error) {
	if !s.loaded {
		return Snapshot{}, fmt.Errorf("saving to Secret %s: %w", s.opts.secretRef(), errNotLoaded)
	}
	if s.showsVersion(ledger.Current) && (ledger.Current == nil || tokensOf(s.secret) == ledger.Rotate) {
		if err := s.candidate.save(ctx, ledger); err != nil {
			return Snapshot{}, err
		}
		s.remember(ledger)
		return s.snapshot(), nil
	}
	if shows, err := s.publishVersion(ctx, ledger); !shows {
		return Snapshot{}, err
	}
	// The version is published; other changes to its Secret are reported when they are repaired. Its ledger is settled: if it
	// cannot be deleted now, the next Load does that.
	if err := s.candidate.save(ctx, ledger); err != nil && ledger.Pending != nil {
		return Snapshot{}, err
	}
	s.remember(ledger)
	return s.snapshot(), nil
}

// publishVersion writes the user's Secret. It reports whether the Secret now shows the current version.
func (s *Published) publishVersion(ctx context.Context, ledger Ledger) (shows bool, err error) {
	if s.secret != nil {
		if conflict := s.opts.conflict(s.secret); conflict != "" {
			return false, fault.Permanent(fault.SecretConflict, errors.New(conflict))
		}
	}
	current, have, err := s.complete(ctx, *ledger.Current)
	if err != nil {
		return false, err
	}
	version, err := s.opts.versionOf(current.Material, current.CommittedAt.Truncate(time.Second))
	if err != nil {
		return false, fault.Permanent(fault.CertificateInvalid, fmt.Errorf("publishing version %d in Secret %s: %w", current.Seq, s.opts.secretRef(), err))
	}
	current.NotAfter = version.NotAfter
	want, err := s.opts.wanted(have, current)
	if err != nil {
		return false, err
	}
	setTokens(want, ledger.Rotate)
	shown := s.showsVersion(&current)
	s.opts.setIssuedAt(want, current.CommittedAt, shown)
	s.opts.Owner.stamp(have, want)
	if have != nil && isImmutable(have) && !showsData(have.Data, want.Data) {
		return false, fault.Permanent(fault.SecretConflict, errors.New(s.opts.immutableConflict()))
	}
	written, err := write(ctx, s.opts.Client, have, want)
	if written == nil {
		return false, err
	}
	s.adopted = cmp.Or(s.opts.handover(have, written), s.adopted)
	s.keystoresWritten = s.keystoresWritten || shown && otherKeystores(have, written)
	s.wrote(written, current.Material, version)
	return s.showsVersion(&current), err
}

// wrote takes over the result of a write. If that is what was sent, it is already parsed.
func (s *Published) wrote(secret *corev1.Secret, sent credential.Material, version rotation.Version) {
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		if !bytes.Equal(secret.Data[key], sent[key].Reveal()) {
			s.see(secret)
			return
		}
	}
	version.Seq = s.opts.numberOf(secret)
	s.secret, s.current = secret, &Record{Version: version, Material: sent.Clone()}
}

// Publish repairs everything about the user's Secret except its certificate: labels, annotations, owner, authorities, the
// combined file. It first reads the Secret live, since a cached copy has no key to write back.
func (s *Published) Publish(ctx context.Context) (Snapshot, error) {
	if !s.loaded {
		return Snapshot{}, fmt.Errorf("publishing to Secret %s: %w", s.opts.secretRef(), errNotLoaded)
	}
	if s.secret != nil && isStripped(s.secret) {
		secret, err := read(ctx, s.opts.Live, s.opts.secretKey())
		if err != nil {
			return Snapshot{}, err
		}
		s.see(secret)
	}
	if s.current == nil {
		// The copy that the caller saw is out of date: the certificate must be issued again, not repaired.
		return s.snapshot(), nil
	}
	have := s.secret
	secret, adopted, err := s.opts.publish(ctx, have, *s.current)
	if secret != nil {
		s.keystoresWritten = s.keystoresWritten || otherKeystores(have, secret)
		s.see(secret)
	}
	if err != nil {
		return Snapshot{}, err
	}
	s.adopted = cmp.Or(adopted, s.adopted)
	return s.snapshot(), nil
}

// Confirm checks that the ledger of the pending version is still what was last read or written; if not, the error is a conflict.
func (s *Published) Confirm(ctx context.Context) error { return s.candidate.confirm(ctx) }

// see records a Secret as the current state.
func (s *Published) see(secret *corev1.Secret) {
	s.secret, s.current = secret, nil
	if secret == nil || s.opts.conflict(secret) != "" {
		return
	}
	if !s.remembered {
		s.memory.Rotate = tokensOf(secret)
	}
	material := credential.Material{}
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		if value, ok := secret.Data[key]; ok {
			material[key] = credential.NewSensitive(value)
		}
	}
	version, err := s.opts.versionOf(material, recordedIssue(secret))
	if err != nil {
		return
	}
	version.Seq = s.opts.numberOf(secret)
	s.current = &Record{Version: version, Material: material}
}

// versionOf returns the version of its material, or an error if the material is damaged.
func (o PublishedOptions) versionOf(material credential.Material, issued time.Time) (rotation.Version, error) {
	if !keyFits(material[credential.KeyCertificate].Reveal(), material[credential.KeyPrivateKey].Reveal()) {
		return rotation.Version{}, errors.New("the private key and the certificate are not a valid pair")
	}
	version, err := o.Parse(material, issued)
	if err != nil {
		return rotation.Version{}, fmt.Errorf("reading the certificate: %w", err)
	}
	version.Stage = rotation.Current
	if version.PublishedAt.IsZero() {
		// It is published by the write that makes it current.
		version.PublishedAt = version.CommittedAt
	}
	return version, nil
}

// complete returns the record with its key, and the Secret with everything that the API server has. If either is a stripped
// copy, the Secret is read live, and must not have changed since it was cached.
func (s *Published) complete(ctx context.Context, current Record) (Record, *corev1.Secret, error) {
	keyless := isPlaceholder(current.Material[credential.KeyPrivateKey].Reveal())
	if !keyless && (s.secret == nil || s.secret.Annotations[annotationApplied] == "" || !isStripped(s.secret)) {
		return current, s.secret, nil
	}
	live, err := read(ctx, s.opts.Live, s.opts.secretKey())
	if err != nil {
		return Record{}, nil, err
	}
	if live == nil || s.secret == nil || live.ResourceVersion != s.secret.ResourceVersion {
		return Record{}, nil, fault.Transient(fault.APIServerFailed, apierrors.NewConflict(
			corev1.Resource("secrets"), s.opts.SecretName, errors.New("it was changed since it was cached")))
	}
	if keyless {
		current.Material = current.Material.With(credential.KeyPrivateKey, live.Data[credential.KeyPrivateKey])
	}
	return current, live, nil
}

// showsVersion reports whether the Secret already shows this version; nil counts as shown.
func (s *Published) showsVersion(version *Record) bool {
	if version == nil {
		return true
	}
	return s.current != nil && s.current.Seq == version.Seq &&
		bytes.Equal(s.current.Material[credential.KeyCertificate].Reveal(), version.Material[credential.KeyCertificate].Reveal())
}

func (s *Published) remember(ledger Ledger) {
	s.memory = ledger.Clone()
	s.memory.Current, s.memory.Previous = nil, nil
	s.remembered = true
}

func (s *Published) snapshot() Snapshot {
	out := s.opts.target(s.secret, s.current)
	ledger := s.memory.Clone()
	ledger.Current = s.current.clone()
	if s.current != nil {
		version := s.current.Version
		out.Shown = &version
	}
	if s.secret != nil && out.Conflict == "" {
		out.Keystores = keystoresOf(s.secret).KeystoreVersion
		ledger.LastSeq = max(ledger.LastSeq, revision(s.secret))
		if s.current != nil {
			ledger.LastSeq = max(ledger.LastSeq, s.current.Seq)
		}
	}
	out.Ledger, out.Adopted, out.KeystoresWritten = ledger, s.adopted, s.keystoresWritten
	out.Overtaken = s.opts.Owner.overtaken(s.secret) || s.candidate.overtaken()
	return out
}

// setIssuedAt records when the certificate was issued, if it does not show that. What is recorded of a certificate that the Secret
// already shows is kept: while its authority is not ready, it is unknown what the certificate shows.
func (o PublishedOptions) setIssuedAt(secret *corev1.Secret, issued time.Time, shown bool) {
	if !shown {
		delete(secret.Annotations, v1alpha1.AnnotationIssuedAt)
	}
	if o.RecordIssue && !issued.IsZero() {
		secret.Annotations[v1alpha1.AnnotationIssuedAt] = issued.UTC().Format(time.RFC3339)
	}
}

// recordedIssue returns when the certificate was issued, as recorded; zero if it is not recorded.
func recordedIssue(secret *corev1.Secret) time.Time {
	at, err := time.Parse(time.RFC3339, secret.Annotations[v1alpha1.AnnotationIssuedAt])
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func tokensOf(secret *corev1.Secret) Tokens {
	if secret == nil {
		return Tokens{}
	}
	return Tokens{Seen: secret.Annotations[v1alpha1.AnnotationRotateSeen], Honored: secret.Annotations[v1alpha1.AnnotationRotateHonored]}.short()
}

func setTokens(secret *corev1.Secret, tokens Tokens) {
	for key, token := range map[string]string{
		v1alpha1.AnnotationRotateSeen: tokens.Seen, v1alpha1.AnnotationRotateHonored: tokens.Honored,
	} {
		delete(secret.Annotations, key)
		if token != "" {
			secret.Annotations[key] = token
		}
	}
}
