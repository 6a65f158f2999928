// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Withdraw removes or releases what the store keeps. With deletionPolicy Delete the user's Secret and the ledger are
// deleted; with Retain both stay: the Secret without an owner reference, the ledger with the label rekey.dev/retained. It
// needs no Load, so that an unreadable ledger blocks no deletion, and it is idempotent. After a Load it returns a conflict
// if the ledger was written since: a process that was paused for a long time may find a ledger of an object created in the
// meantime.
func (s *Ledgered) Withdraw(ctx context.Context) error {
	loaded, still := s.loaded, func() error { return nil }
	if loaded {
		still = func() error { return s.Confirm(ctx) }
	}
	s.loaded = false
	// Load has checked that the object exists; without it, only the UID identifies the owner of the Secrets.
	ours := func(secret *corev1.Secret) bool { return loaded || s.opts.Owner.wrote(secret) }
	// The ledger is deleted last: as long as it exists, an interrupted deletion can be finished.
	if err := s.opts.withdrawSecret(ctx, ours, still); err != nil {
		return err
	}
	ledger, err := read(ctx, s.opts.Live, s.ledgerKey())
	switch {
	case err != nil:
		return err
	case loaded && !s.isLedger(ledger):
		return overtaken(s.ledgerKey())
	case ledger == nil || ledger.Type != v1alpha1.SecretTypeLedger || !s.opts.Owner.records(ledger) || !ours(ledger):
		return nil
	case s.opts.DeletionPolicy == v1alpha1.DeletionDelete:
		return remove(ctx, s.opts.Client, ledger)
	}
	want := ledger.DeepCopy()
	want.Labels = merged(want.Labels, map[string]string{v1alpha1.LabelRetained: "true"})
	return s.opts.updateChanged(ctx, ledger, want)
}

// Withdraw removes or releases what the store keeps, by the deletion policy. It needs no Load and is idempotent.
func (s *Published) Withdraw(ctx context.Context) error {
	s.loaded = false
	if err := s.opts.withdrawSecret(ctx, s.opts.Owner.wrote, func() error { return nil }); err != nil {
		return err
	}
	if err := s.candidate.load(ctx); err != nil {
		return err
	}
	return s.candidate.remove(ctx)
}

// withdrawSecret checks with still, after it has read the Secret, that this is still wanted: a later write is refused.
func (o Options) withdrawSecret(ctx context.Context, ours func(*corev1.Secret) bool, still func() error) error {
	secret, err := read(ctx, o.Live, o.secretKey())
	if err != nil || secret == nil || !o.Owner.records(secret) || !ours(secret) {
		return err
	}
	if err := still(); err != nil {
		return err
	}
	if o.DeletionPolicy == v1alpha1.DeletionDelete {
		return remove(ctx, o.Client, secret)
	}
	want := secret.DeepCopy()
	want.OwnerReferences = o.ownerReferences(want.OwnerReferences)
	return o.updateChanged(ctx, secret, want)
}

func (o Options) updateChanged(ctx context.Context, have, want *corev1.Secret) error {
	if equality.Semantic.DeepEqual(have, want) {
		return nil
	}
	_, err := write(ctx, o.Client, have, want)
	if _, written := alteredData(err); written || err != nil && isGone(err) {
		return nil
	}
	return err
}
