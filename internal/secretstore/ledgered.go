// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// LedgeredOptions are what a Ledgered store needs besides Options.
type LedgeredOptions struct {
	Options
	// Check compares a ledger with what is derived from the spec, after it is read and before it is written. If it returns an
	// error, nothing of the ledger is used. The error does not quote the ledger: anyone who edited it may have put anything there.
	Check func(Ledger) error
	// Candidate returns the slot and the material of the version that the user's Secret shows, to rebuild a lost ledger from; false
	// if the Secret shows no version that is derived from the spec.
	Candidate func(data map[string][]byte) (slot string, material credential.Material, ok bool)
	// ShownKeys are the keys of the material by which the user's Secret is known to show a version: Data returns them unchanged.
	ShownKeys []string
	// Recover proves a candidate for a lost ledger: the user's Secret is ours and shows a version of the spec. It uses that version, changes nothing,
	// and returns the whole ledger: the candidate completed with what the Secret does not hold (fingerprint, verifier), and what
	// the remote system knows about the other slots.
	// Accepted: this is the ledger from now on. Rejected: the credential starts from scratch, above the number that the Secret
	// shows. Unknown: Load fails, because neither is safe.
	//
	// The candidate's times are when the Secret was last written. honored is the value of rekey.dev/rotate that the Secret
	// shows as carried out. Recover is nil if nothing is to be recovered (deletion).
	Recover func(ctx context.Context, candidate Record, honored string) (Ledger, credential.Answer, error)
}

// Ledgered keeps a ledger, which is the truth, and the user's Secret, which is its projection. One value serves one
// reconcile of one object.
type Ledgered struct {
	opts   LedgeredOptions
	loaded bool
	// The Secrets as last read or written; nil if they do not exist.
	ledger, secret *corev1.Secret
	content        Ledger
	// inherited is true if the ledger is the former owner's and a user handed it over.
	inherited bool
	adopted   string
}

// NewLedgered returns a store. Nothing is read before Load.
func NewLedgered(opts LedgeredOptions) *Ledgered { return &Ledgered{opts: opts} }

var errNotLoaded = errors.New("the store was not loaded")

// Load reads the ledger and the user's Secret, live. A ledger that cannot be read, or that contains names not derived from the
// spec, is a permanent error with fault.LedgerInvalid, and nothing of it is returned.
func (s *Ledgered) Load(ctx context.Context) (Snapshot, error) {
	s.loaded = false
	// The Secret first: a process that was paused in between would otherwise publish an older ledger over a newer Secret. This
	// way the Secret is the older one, and its resource version refuses the write.
	secret, err := read(ctx, s.opts.Live, s.opts.secretKey())
	if err != nil {
		return Snapshot{}, err
	}
	ledger, err := read(ctx, s.opts.Live, s.ledgerKey())
	if err != nil {
		return Snapshot{}, err
	}
	if err := s.opts.present(ctx, ledger, secret); err != nil {
		return Snapshot{}, err
	}
	content := Ledger{}
	if ledger != nil {
		if content, err = s.decode(ledger); err != nil {
			return Snapshot{}, err
		}
	}
	s.ledger, s.secret, s.content, s.loaded = ledger, secret, content, true
	s.inherited = ledger != nil && s.opts.Owner.inherits(ledger)
	if s.inherited && content.TakeOver.Seen != s.opts.Owner.Former {
		s.content.TakeOver = Handover{} // what the former owner took over itself
	}
	if err := s.settle(ctx); err != nil {
		s.loaded = false
		return Snapshot{}, err
	}
	return s.snapshot(), nil
}

// Save writes the ledger if it differs from what is stored, by compare-and-swap against what was last read or written.
func (s *Ledgered) Save(ctx context.Context, ledger Ledger) (Snapshot, error) {
	if !s.loaded {
		return Snapshot{}, fmt.Errorf("saving the ledger of %s: %w", s.opts.Owner, errNotLoaded)
	}
	if err := s.opts.Check(ledger); err != nil {
		return Snapshot{}, fault.Permanent(fault.LedgerInvalid, fmt.Errorf("saving the ledger of %s: %w", s.opts.Owner, err))
	}
	data, err := EncodeLedger(ledger)
	if err != nil {
		return Snapshot{}, fmt.Errorf("saving the ledger of %s: %w", s.opts.Owner, err)
	}
	annotations := s.opts.Owner.Annotations()
	if s.inherited && ledger.TakeOver.Honored != s.opts.Owner.Former {
		annotations = nil // it stays the former owner's until it is taken over
	}
	if err := s.writeLedger(ctx, data, annotations); err != nil {
		return Snapshot{}, err
	}
	s.content, s.inherited = ledger.Clone(), s.inherited && annotations == nil
	return s.snapshot(), nil
}

// Publish makes the user's Secret show the current version. A Secret that is not ours is not changed: the error is permanent,
// with fault.SecretConflict.
func (s *Ledgered) Publish(ctx context.Context) (Snapshot, error) {
	if !s.loaded {
		return Snapshot{}, fmt.Errorf("publishing to Secret %s: %w", s.opts.secretRef(), errNotLoaded)
	}
	if s.content.Current == nil {
		return Snapshot{}, fmt.Errorf("publishing to Secret %s: the ledger has no current version", s.opts.secretRef())
	}
	if s.ledger != nil && (s.secret == nil || s.shown().conflict(s.secret) == "") {
		// A recreated object takes over its old ledger before the Secret: an interruption is repeated as long as the Secret
		// differs.
		if err := s.writeLedger(ctx, s.ledger.Data, s.opts.Owner.Annotations()); err != nil {
			return Snapshot{}, err
		}
	}
	if s.secret == nil && !s.content.Current.PublishedAt.IsZero() {
		// A Secret that was published and is missing may have been withdrawn since the ledger was read, together with the logins.
		if err := s.Confirm(ctx); err != nil {
			return Snapshot{}, err
		}
	}
	secret, adopted, err := s.shown().publish(ctx, s.secret, *s.content.Current)
	if secret != nil {
		s.secret = secret
	}
	if err != nil {
		return Snapshot{}, err
	}
	s.adopted = cmp.Or(adopted, s.adopted)
	return s.snapshot(), nil
}

// Confirm checks that the ledger is still what was last read or written; if not, the error is a conflict.
func (s *Ledgered) Confirm(ctx context.Context) error {
	now, err := read(ctx, s.opts.Live, s.ledgerKey())
	if err != nil || s.isLedger(now) {
		return err
	}
	return overtaken(s.ledgerKey())
}

// isLedger reports whether a Secret is exactly the ledger that was last read or written.
func (s *Ledgered) isLedger(now *corev1.Secret) bool {
	return sameSecret(now, s.ledger)
}

// publish writes the user's Secret if it differs. It returns the Secret as it is now, even together with an error if the API
// server stored a different one than was sent, and a description of the adoption if the owner changed.
func (o Options) publish(ctx context.Context, have *corev1.Secret, current Record) (*corev1.Secret, string, error) {
	seen := o.target(have, &current)
	switch seen.Target {
	case rotation.TargetForeign:
		return nil, "", fault.Permanent(fault.SecretConflict, errors.New(seen.Conflict))
	case rotation.TargetShowsCurrent:
		return have, "", nil
	case rotation.TargetMissing, rotation.TargetDiffers:
	}
	want, err := o.wanted(have, current)
	if err != nil {
		return nil, "", err
	}
	written, err := write(ctx, o.Client, have, want)
	if err != nil {
		return written, "", err
	}
	return written, o.handover(have, written), nil
}

// writeLedger writes data and the ledger's metadata if anything differs. annotations name its owner; nil keeps the owner.
func (s *Ledgered) writeLedger(ctx context.Context, data map[string][]byte, annotations map[string]string) error {
	want := &corev1.Secret{Type: v1alpha1.SecretTypeLedger}
	want.Namespace, want.Name = s.opts.Namespace, s.ledgerKey().Name
	if s.ledger != nil {
		want = s.ledger.DeepCopy()
	}
	// Entries of a later release are kept.
	for _, key := range []string{ledgerKeyPending, ledgerKeyCurrent, ledgerKeyPrevious} {
		delete(want.Data, key)
	}
	entries := maps.Clone(want.Data)
	if entries == nil {
		entries = map[string][]byte{}
	}
	maps.Copy(entries, data)
	want.Data = entries
	want.Labels = merged(want.Labels, s.opts.Owner.labels())
	want.Annotations = merged(want.Annotations, annotations)
	delete(want.Labels, v1alpha1.LabelRetained)
	if s.ledger != nil && equality.Semantic.DeepEqual(s.ledger.Data, want.Data) && sameMetadata(s.ledger.ObjectMeta, want.ObjectMeta) {
		return nil
	}
	if s.ledger != nil && isImmutable(s.ledger) && !showsData(s.ledger.Data, want.Data) {
		key := s.ledgerKey()
		return fault.Blocked(fault.APIServerFailed, fmt.Errorf(
			"writing ledger Secret %s: it is immutable, but its data must change: replace it with: kubectl -n %s get secret %s -o yaml | grep -v '^immutable:' | kubectl replace --force -f -",
			key, key.Namespace, key.Name))
	}
	if annotations != nil {
		s.opts.Owner.stamp(s.ledger, want)
	}
	written, err := write(ctx, s.opts.Client, s.ledger, want)
	if written == nil {
		return err
	}
	s.ledger = written
	if showsAll(written.Data, data) {
		return nil // other changes do not matter
	}
	return err
}

// decode returns the ledger, and refuses it if any part is not derived from the spec.
func (s *Ledgered) decode(secret *corev1.Secret) (Ledger, error) {
	if copied := s.copiedLedger(secret); copied != "" {
		return Ledger{}, fault.Permanent(fault.Fenced, errors.New(copied))
	}
	if secret.Type != v1alpha1.SecretTypeLedger || !s.opts.Owner.names(secret) {
		return Ledger{}, s.ledgerInvalid(errors.New("it is not the ledger of " + s.opts.Owner.String() +
			" by its type or its annotation " + v1alpha1.AnnotationOwner))
	}
	ledger, err := DecodeLedger(secret.Data)
	if err == nil {
		err = s.opts.Check(ledger)
	}
	if err != nil {
		return Ledger{}, s.ledgerInvalid(err)
	}
	return ledger, nil
}

func (s *Ledgered) ledgerInvalid(err error) error {
	key := s.ledgerKey()
	return fault.Permanent(fault.LedgerInvalid, fmt.Errorf(
		"reading ledger Secret %s: %w; restore it from a backup, or delete it with `kubectl -n %s delete secret %s`: rekey recreates it from Secret %s if the login there works",
		key, err, key.Namespace, key.Name, s.opts.SecretName))
}

func (s *Ledgered) ledgerKey() client.ObjectKey {
	return client.ObjectKey{Namespace: s.opts.Namespace, Name: LedgerName(s.opts.Owner.GVK.Kind, s.opts.Owner.Name)}
}

// shown returns the options of the user's Secret, with what the ledger adds.
func (s *Ledgered) shown() Options {
	out := s.opts.Options
	out.honored, out.ledgered = s.content.Rotate.Honored, s.ledger != nil && s.content.Current != nil
	out.takenOver = s.content.TakeOver
	return out
}

func (s *Ledgered) snapshot() Snapshot {
	out := s.shown().target(s.secret, s.content.Current)
	out.Ledger, out.Adopted, out.Overtaken, out.Shown = s.content.Clone(), s.adopted, s.opts.Owner.overtaken(s.ledger), s.shownVersion()
	former := s.opts.Owner.Former
	out.Inherited = s.inherited || !s.content.versions() && s.secret != nil && s.opts.Owner.inherits(s.secret) && s.content.TakeOver.Honored != former
	return out
}

// shownVersion returns the version that the user's Secret shows.
func (s *Ledgered) shownVersion() *rotation.Version {
	if s.secret == nil || s.opts.conflict(s.secret) != "" {
		return nil
	}
	for _, record := range []*Record{s.content.Current, s.content.Previous} {
		if record == nil {
			continue
		}
		known := map[string][]byte{}
		for _, key := range s.opts.ShownKeys {
			known[key] = record.Material[key].Reveal()
		}
		if showsAll(s.secret.Data, known) {
			version := record.Version
			return &version
		}
	}
	return nil
}

// lastWritten returns when a Secret was last written, according to the API server.
func lastWritten(secret *corev1.Secret) metav1.Time {
	latest := secret.CreationTimestamp
	for _, entry := range secret.ManagedFields {
		if entry.Time != nil && latest.Before(entry.Time) {
			latest = *entry.Time
		}
	}
	return latest
}
