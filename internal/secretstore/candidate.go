// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// candidate is the ledger of a certificate's pending version. Its Secret exists from Propose until the version is published or
// discarded, and is garbage-collected with the object. Losing it costs one certificate, so its content never blocks: a ledger that
// is damaged, settled or belongs to another object counts as empty, and the next version overwrites it.
//
// The zero value of a store without a Candidates client never reads or writes.
type candidate struct {
	opts *PublishedOptions
	// secret is the Secret as last read or written; nil if it does not exist. ledger is what it holds.
	secret *corev1.Secret
	ledger Ledger
}

func (c *candidate) durable() bool { return c.opts.Candidates != nil }

func (c *candidate) key() client.ObjectKey {
	return client.ObjectKey{Namespace: c.opts.Namespace, Name: LedgerName(c.opts.Owner.GVK.Kind, c.opts.Owner.Name)}
}

// load reads the ledger, live.
func (c *candidate) load(ctx context.Context) error {
	c.secret, c.ledger = nil, Ledger{}
	if !c.durable() {
		return nil
	}
	secret, err := read(ctx, c.opts.Live, c.key())
	if err != nil || secret == nil {
		return err
	}
	c.secret = secret
	if !c.ours() || !c.opts.Owner.records(secret) || !c.opts.Owner.wrote(secret) {
		return nil
	}
	ledger, err := DecodeLedger(secret.Data)
	if err != nil || !usable(ledger.Pending) {
		return nil //nolint:nilerr // a damaged ledger costs one certificate
	}
	c.ledger = Ledger{Pending: ledger.Pending, LastSeq: ledger.LastSeq, Rotate: ledger.Rotate}
	return nil
}

// usable reports whether the next step can be performed with the version: a key is recorded and, once it is staged, its certificate.
func usable(pending *Record) bool {
	if pending == nil {
		return false
	}
	key := pending.Material[credential.KeyPrivateKey].Reveal()
	switch pending.Stage {
	case rotation.Proposed:
		return len(key) > 0
	case rotation.Staged, rotation.Verified:
		return keyFits(pending.Material[credential.KeyCertificate].Reveal(), key)
	case rotation.Current, rotation.Previous, rotation.Discarded:
	}
	return false
}

// ours reports whether the Secret may be written: its type and its owner are those of our ledger, regardless of its content.
func (c *candidate) ours() bool {
	return c.secret == nil || c.secret.Type == v1alpha1.SecretTypeLedger && c.opts.Owner.names(c.secret)
}

// save records the pending version by compare-and-swap on what was last read or written, or deletes the ledger if there is none.
func (c *candidate) save(ctx context.Context, ledger Ledger) error {
	switch {
	case !c.durable():
		return nil
	case ledger.Pending == nil:
		return c.remove(ctx)
	case !c.ours():
		return fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"recording a version of %s: Secret %s has the name of its ledger and is not one: delete it with `kubectl -n %s delete secret %s`",
			c.opts.Owner, c.key(), c.opts.Namespace, c.key().Name))
	}
	kept := Ledger{Pending: ledger.Pending, LastSeq: ledger.LastSeq}
	if ledger.Current == nil {
		kept.Rotate = ledger.Rotate // otherwise the user's Secret holds them
	}
	data, err := EncodeLedger(kept)
	if err != nil {
		return fmt.Errorf("recording a version of %s: %w", c.opts.Owner, err)
	}
	want := c.wanted(data)
	if have := c.secret; have != nil && equality.Semantic.DeepEqual(have.Data, want.Data) && sameMetadata(have.ObjectMeta, want.ObjectMeta) {
		return nil
	}
	c.opts.Owner.stamp(c.secret, want)
	if c.secret != nil && isImmutable(c.secret) {
		if err := c.remove(ctx); err != nil {
			return err
		}
		want.Immutable = nil
	}
	written, err := write(ctx, c.opts.Candidates, c.secret, want)
	if written == nil {
		return err
	}
	c.secret, c.ledger = written, kept.Clone()
	if showsAll(written.Data, data) {
		return nil // other changes do not matter
	}
	return err
}

func (c *candidate) wanted(data map[string][]byte) *corev1.Secret {
	want := &corev1.Secret{Type: v1alpha1.SecretTypeLedger}
	want.Namespace, want.Name = c.key().Namespace, c.key().Name
	if c.secret != nil {
		want = c.secret.DeepCopy()
	}
	want.Data = data
	want.Labels = merged(want.Labels, c.opts.Owner.labels())
	want.Annotations = merged(want.Annotations, c.opts.Owner.Annotations())
	want.OwnerReferences = []metav1.OwnerReference{c.opts.ownerReference()}
	return want
}

// remove deletes the ledger, unless another process has written it since.
func (c *candidate) remove(ctx context.Context) error {
	if !c.durable() || c.secret == nil || !c.ours() {
		return nil
	}
	if err := remove(ctx, c.opts.Candidates, c.secret); err != nil {
		return err
	}
	c.secret, c.ledger = nil, Ledger{}
	return nil
}

// settle deletes the ledger of a version that is already published: the process that published it died, or could not delete it.
// A failure is ignored: the next Load retries.
func (c *candidate) settle(ctx context.Context, current *Record) {
	if pending := c.ledger.Pending; pending != nil && current != nil && pending.Seq <= current.Seq {
		_ = c.remove(ctx)
		c.ledger = Ledger{}
	}
}

// overtaken reports whether the candidate may have been recorded or settled for a later state of the owner than the caller knows. If
// there is no ledger, that is not known.
func (c *candidate) overtaken() bool { return c.durable() && c.opts.Owner.overtaken(c.secret) }

// confirm checks that the ledger is still what was last read or written; if not, the error is a conflict.
func (c *candidate) confirm(ctx context.Context) error {
	if !c.durable() {
		return nil
	}
	now, err := read(ctx, c.opts.Live, c.key())
	if err != nil || sameSecret(now, c.secret) {
		return err
	}
	return overtaken(c.key())
}

// sameSecret reports whether both are the same state of the same Secret; nil means that it does not exist.
func sameSecret(a, b *corev1.Secret) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.UID == b.UID && a.ResourceVersion == b.ResourceVersion
}

// overtaken returns the conflict that a write with the old ledger would cause.
func overtaken(key client.ObjectKey) error {
	return apiError("confirming", key, nil, apierrors.NewConflict(corev1.Resource("secrets"), key.Name,
		errors.New("another process wrote or deleted it since it was read; abandoning what was started with it")))
}
