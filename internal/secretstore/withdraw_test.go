// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestWithdrawLeavesNothingOrEverythingInEveryState(t *testing.T) {
	states := map[string]func(*testing.T, world, LedgeredOptions){
		"nothing was created": func(*testing.T, world, LedgeredOptions) {},
		"published":           func(t *testing.T, w world, o LedgeredOptions) { t.Helper(); w.published(t, o) },
		"only the ledger": func(t *testing.T, w world, o LedgeredOptions) {
			t.Helper()
			w.published(t, o)
			w.drop(t, shown)
		},
		"only the Secret": func(t *testing.T, w world, o LedgeredOptions) {
			t.Helper()
			w.published(t, o)
			w.drop(t, w.ledgerName("orders"))
		},
		"a ledger that cannot be read": func(t *testing.T, w world, o LedgeredOptions) {
			t.Helper()
			w.published(t, o)
			w.edit(t, w.ledgerName("orders"), func(s *corev1.Secret) { s.Data = map[string][]byte{"junk": []byte("x")} })
		},
		"a terminating namespace": func(t *testing.T, w world, o LedgeredOptions) {
			t.Helper()
			w.published(t, o)
			// No controller empties the namespace here, so it stays terminating.
			if err := w.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, prepare := range states {
		for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
			t.Run(name+", "+string(policy), func(t *testing.T) {
				w := newWorld(t)
				opts := w.ledgerOptions("orders")
				opts.DeletionPolicy = policy
				prepare(t, w, opts)
				secret, ledger := w.secret(t, shown), w.secret(t, w.ledgerName("orders"))
				if secret != nil {
					if owned := len(secret.OwnerReferences) == 1; owned != (policy == v1alpha1.DeletionDelete) {
						t.Errorf("with %s the Secret has the owners %v", policy, secret.OwnerReferences)
					}
				}
				for range 2 {
					if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				leftSecret, leftLedger := w.secret(t, shown), w.secret(t, w.ledgerName("orders"))
				if policy == v1alpha1.DeletionDelete {
					if leftSecret != nil || leftLedger != nil {
						t.Errorf("left behind: Secret %v, ledger %v", leftSecret != nil, leftLedger != nil)
					}
					return
				}
				if (leftSecret == nil) != (secret == nil) || (leftLedger == nil) != (ledger == nil) {
					t.Error("something that should be retained is gone")
				}
				if leftLedger != nil && leftLedger.Labels[v1alpha1.LabelRetained] != "true" {
					t.Error("the ledger is not labeled")
				}
			})
		}
	}
}

func TestRetainRemovesTheOwnerReferenceEvenIfThePolicyChangedLast(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	opts.DeletionPolicy = v1alpha1.DeletionRetain
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.secret(t, shown); got == nil || len(got.OwnerReferences) > 0 {
		t.Errorf("the Secret would be garbage-collected with its owner: %v", got)
	}
}

func TestWithdrawDeletesOnlyTheSecretThatItSaw(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	opts.Live = readerFunc(func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
		if err := w.Get(ctx, key, obj); err != nil || key.Name != shown {
			return err
		}
		// Another client writes between our read and our delete.
		other := obj.DeepCopyObject().(*corev1.Secret)
		other.Labels["race"] = "lost"
		return w.Update(ctx, other)
	})
	if err := NewLedgered(opts).Withdraw(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if w.secret(t, shown) == nil {
		t.Error("a changed Secret was deleted without being read again")
	}
}
