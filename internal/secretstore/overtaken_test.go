// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
)

// The object was deleted and recreated while a process was paused that had seen the first object being deleted.
func TestAnOvertakenWriterWithdrawsNothing(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	late := NewLedgered(opts)
	must[Snapshot](t)(late.Load(t.Context()))
	if err := late.Confirm(t.Context()); err != nil {
		t.Fatalf("nothing has changed, but the error is %v", err)
	}
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := late.Confirm(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("confirmed although the ledger is gone: %v", err)
	}
	opts.Owner.UID = "another-uid"
	w.published(t, opts)
	if err := late.Confirm(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("confirmed although the ledger was replaced: %v", err)
	}
	if err := late.Withdraw(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("withdrew what belongs to the new object: %v", err)
	}
	if w.secret(t, shown) == nil || w.secret(t, w.ledgerName("orders")) == nil {
		t.Error("the Secret or the ledger of the new object is gone")
	}
}

// The Secret of a deleted object is gone before its ledger: a process that read the ledger in between, and whose cache does not
// show the deletion yet, would publish a login that was dropped.
func TestAnOvertakenWriterRepublishesNothing(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	first := NewLedgered(opts)
	ledger := must[Snapshot](t)(first.Load(t.Context())).Ledger
	ledger.Current.PublishedAt = ledger.Current.CommittedAt
	must[Snapshot](t)(first.Save(t.Context(), ledger))
	if err := w.Delete(t.Context(), w.secret(t, shown)); err != nil {
		t.Fatal(err)
	}
	late := NewLedgered(opts)
	expectTarget(t, must[Snapshot](t)(late.Load(t.Context())), rotation.TargetMissing)
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Publish(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("published what was withdrawn: %v", err)
	}
	if w.secret(t, shown) != nil {
		t.Error("the Secret of the deleted object exists again")
	}
}

// R6: a caller with the UID of another object of that name must first show that its own object exists; otherwise it reads
// nothing.
func TestTheLedgerOfAnotherObjectIsReadOnlyByAnObjectThatExists(t *testing.T) {
	w := newWorld(t)
	login, identity := w.ledgerOptions("orders"), w.publishedOptions("app")
	w.published(t, login)
	w.issue(t, identity, issued(t, 1, "app"))
	type loader interface {
		Load(ctx context.Context) (Snapshot, error)
	}
	stores := map[string]func(uid string, present func(context.Context) error) loader{
		"a ledger": func(uid string, present func(context.Context) error) loader {
			login.Owner.UID, login.Present = types.UID(uid), present
			return NewLedgered(login)
		},
		"a certificate": func(uid string, present func(context.Context) error) loader {
			identity.Owner.UID, identity.Present = types.UID(uid), present
			return NewPublished(identity)
		},
	}
	same := map[string]string{"a ledger": string(login.Owner.UID), "a certificate": string(identity.Owner.UID)}
	gone := errors.New("it is gone")
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			asked := 0
			if _, err := store(same[name], func(context.Context) error { asked++; return gone }).Load(t.Context()); err != nil || asked != 0 {
				t.Errorf("its own object: checked %d times, %v", asked, err)
			}
			if _, err := store("another", func(context.Context) error { asked++; return gone }).Load(t.Context()); !errors.Is(err, gone) {
				t.Errorf("another object that is gone: %v", err)
			}
			if snapshot, err := store("another", func(context.Context) error { return nil }).Load(t.Context()); err != nil || snapshot.Ledger.Current == nil || !snapshot.Overtaken {
				t.Errorf("another object that exists: %+v, %v", snapshot.Ledger.Current, err)
			}
		})
	}
}

// R6: the resource version records for which state of the object a Secret was written, and no older writer lowers it.
func TestAWriterWithAnOlderObjectIsOvertaken(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	at := func(version string) *Ledgered {
		opts.Owner.ResourceVersion = version
		return NewLedgered(opts)
	}
	overtaken := func(version string) bool { return must[Snapshot](t)(at(version).Load(t.Context())).Overtaken }
	if !overtaken("100") {
		t.Error("nothing is recorded, so Overtaken must be true")
	}
	opts.Owner.ResourceVersion = "100"
	w.published(t, opts)
	for version, want := range map[string]bool{"99": true, "100": false, "101": false, "1000": false, "": true, "x": true} {
		if got := overtaken(version); got != want {
			t.Errorf("with resource version %q after 100: overtaken is %t, want %t", version, got, want)
		}
	}
	older := at("99")
	snapshot := must[Snapshot](t)(older.Load(t.Context()))
	ledger := snapshot.Ledger.Clone()
	ledger.LastSeq++
	must[Snapshot](t)(older.Save(t.Context(), ledger))
	if got := w.secret(t, w.ledgerName("orders")).Annotations[v1alpha1.AnnotationOwnerVersion]; got != "100" {
		t.Errorf("an older writer has left the resource version %q, want 100", got)
	}
	newer := at("150")
	snapshot = must[Snapshot](t)(newer.Load(t.Context()))
	ledger = snapshot.Ledger.Clone()
	ledger.LastSeq++
	must[Snapshot](t)(newer.Save(t.Context(), ledger))
	if !overtaken("149") {
		t.Error("a later writer has left no trace")
	}
}

// A user edits the annotation to an invalid version. Then neither writer can be known to be later, so a live read decides,
// and the next write records its state again.
func TestADamagedVersionIsRecordedAgain(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.Owner.ResourceVersion = "100"
	w.published(t, opts)
	for _, name := range []string{shown, w.ledgerName("orders")} {
		w.edit(t, name, func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationOwnerVersion] = "yesterday" })
	}
	store := NewLedgered(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	if !snapshot.Overtaken {
		t.Error("it is unknown which writer is later, but Overtaken is false")
	}
	ledger := snapshot.Ledger.Clone()
	ledger.LastSeq++
	must[Snapshot](t)(store.Save(t.Context(), ledger))
	if got := w.secret(t, w.ledgerName("orders")).Annotations[v1alpha1.AnnotationOwnerVersion]; got != "100" {
		t.Errorf("the ledger has %q after a write, want 100", got)
	}
	if snapshot := must[Snapshot](t)(NewLedgered(opts).Load(t.Context())); snapshot.Overtaken {
		t.Error("it is still unknown which writer is later")
	}
}

// R6: a ledger that could not be read may belong to an object created since.
func TestAWriterThatCouldNotReadWithdrawsNothingOfAnother(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	opts.Owner.UID = "an-earlier-one"
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.secret(t, shown) == nil || w.secret(t, w.ledgerName("orders")) == nil {
		t.Error("the Secret or the ledger of another object is gone")
	}
}
