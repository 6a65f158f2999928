// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/api/v1alpha1"
)

// The object was deleted and made again while a process stood still that had seen the first one being deleted.
func TestWhoWasOvertakenWithdrawsNothing(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	late := NewLedgered(opts)
	must[Snapshot](t)(late.Load(t.Context()))
	if err := late.Confirm(t.Context()); err != nil {
		t.Fatalf("nothing happened, and still: %v", err)
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
		t.Errorf("confirmed although the ledger is another one: %v", err)
	}
	if err := late.Withdraw(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("withdrew what belongs to the new object: %v", err)
	}
	if w.secret(t, shown) == nil || w.secret(t, w.ledgerName("orders")) == nil {
		t.Error("the Secret or the ledger of the new object is gone")
	}
}
