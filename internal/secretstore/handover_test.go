// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

func TestTheSecondOfTwoOwnersRacingForANameSeesTheFirst(t *testing.T) {
	w := newWorld(t)
	first, second := NewLedgered(w.ledgerOptions("first")), NewLedgered(w.ledgerOptions("second"))
	for _, store := range []*Ledgered{first, second} {
		expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), rotation.TargetMissing)
		must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
	}
	must[Snapshot](t)(first.Publish(t.Context()))
	if _, err := second.Publish(t.Context()); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the loser of the race got %v", err)
	}
	before := w.secret(t, shown)
	snapshot := must[Snapshot](t)(second.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetForeign)
	if !strings.Contains(snapshot.Conflict, "belongs to DatabaseCredential/first") {
		t.Errorf("the conflict does not name the owner: %s", snapshot.Conflict)
	}
	w.expectWrites(t, 0, "publishing to a foreign Secret", func() {
		_, err := second.Publish(t.Context())
		expectFault(t, err, fault.ClassPermanent, fault.SecretConflict)
	})
	opts := w.ledgerOptions("second")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.secret(t, shown)); diff != "" {
		t.Errorf("the Secret of another owner was changed:\n%s", diff)
	}
	expectTarget(t, must[Snapshot](t)(first.Load(t.Context())), rotation.TargetShowsCurrent)
}

func TestManuallyCreatedSecretIsAdoptedOnlyWithTheAnnotation(t *testing.T) {
	w := newWorld(t)
	w.make(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: shown, Labels: map[string]string{"theirs": "kept"}},
		Type:       v1alpha1.SecretTypePostgreSQL, Data: map[string][]byte{"password": []byte("old"), "extra": []byte("x")},
	})
	store := NewLedgered(w.ledgerOptions("orders"))
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetForeign)
	command := "kubectl -n " + w.namespace + " annotate secret orders-db --overwrite rekey.dev/adopt=DatabaseCredential/orders"
	if !strings.Contains(snapshot.Conflict, "was not created by rekey") || !strings.Contains(snapshot.Conflict, command) {
		t.Errorf("the conflict is %q", snapshot.Conflict)
	}
	w.edit(t, shown, func(s *corev1.Secret) {
		s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "DatabaseCredential/orders"}
	})
	expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), rotation.TargetDiffers)
	must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
	snapshot = must[Snapshot](t)(store.Publish(t.Context()))
	expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	if !strings.Contains(snapshot.Adopted, "was not created by rekey") {
		t.Errorf("adopted: %q", snapshot.Adopted)
	}
	got := w.secret(t, shown)
	if got.Labels["theirs"] != "kept" || got.Annotations[v1alpha1.AnnotationAdopt] == "" {
		t.Errorf("labels %v and annotations %v", got.Labels, got.Annotations)
	}
	if diff := cmp.Diff(w.secret(t, shown).Data, must[map[string][]byte](t)(loginData(*goodLedger().Current))); diff != "" {
		t.Error("the data is not exactly ours")
	}
}

func TestAUserHandsTheSecretOfOneObjectToAnother(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("first")
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	w.published(t, opts)
	w.edit(t, shown, func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationAdopt] = "DatabaseCredential/second" })
	expectTarget(t, must[Snapshot](t)(NewLedgered(opts).Load(t.Context())), rotation.TargetShowsCurrent)

	w.published(t, w.ledgerOptions("second"))
	got := w.secret(t, shown)
	if len(got.OwnerReferences) > 0 {
		t.Errorf("garbage collection would still delete it with the first owner: %v", got.OwnerReferences)
	}
	snapshot := must[Snapshot](t)(NewLedgered(opts).Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetForeign)
	if !strings.Contains(snapshot.Conflict, "DatabaseCredential/second") {
		t.Error(snapshot.Conflict)
	}
}

func TestSecretThatCannotBeAdoptedInPlaceIsReported(t *testing.T) {
	yes := true
	cases := map[string]struct {
		secret *corev1.Secret
		want   []string
	}{
		"another type": {
			&corev1.Secret{Type: corev1.SecretTypeOpaque},
			[]string{"has the type Opaque", "get secret orders-db -o yaml", "delete secret orders-db"},
		},
		"another controller": {
			&corev1.Secret{Type: v1alpha1.SecretTypePostgreSQL, ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "external-secrets.io/v1", Kind: "ExternalSecret", Name: "db", UID: "x", Controller: &yes},
			}}},
			[]string{"controlled by ExternalSecret/db"},
		},
		"immutable": {
			&corev1.Secret{Type: v1alpha1.SecretTypePostgreSQL, Immutable: &yes},
			[]string{"is immutable", "delete secret orders-db"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.secret.Name = shown
			tc.secret.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "DatabaseCredential/orders"}
			before := w.make(t, tc.secret)
			store := NewLedgered(w.ledgerOptions("orders"))
			must[Snapshot](t)(store.Load(t.Context()))
			snapshot := must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
			expectTarget(t, snapshot, rotation.TargetForeign)
			for _, words := range tc.want {
				if !strings.Contains(snapshot.Conflict, words) {
					t.Errorf("the conflict %q does not contain %q", snapshot.Conflict, words)
				}
			}
			_, err := store.Publish(t.Context())
			expectFault(t, err, fault.ClassPermanent, fault.SecretConflict)
			if got := w.secret(t, shown); got.ResourceVersion != before.ResourceVersion {
				t.Error("it was written")
			}
			w.drop(t, shown)
			must[Snapshot](t)(store.Load(t.Context()))
			expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
		})
	}
}

func TestARecreatedObjectAdoptsWhatWasRetained(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	w.published(t, opts)
	if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t, 0, "withdrawing a second time", func() {
		if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if w.secret(t, w.ledgerName("orders")).Labels[v1alpha1.LabelRetained] != "true" {
		t.Error("the ledger is not labeled as retained")
	}
	opts.Owner.UID = "another-uid"
	store := NewLedgered(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetDiffers)
	if diff := cmp.Diff(goodLedger(), snapshot.Ledger, sameLedger); diff != "" {
		t.Errorf("the ledger was not adopted:\n%s", diff)
	}
	w.expectWrites(t, 2, "adoption (ledger and Secret)", func() {
		expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
	})
	if _, retained := w.secret(t, w.ledgerName("orders")).Labels[v1alpha1.LabelRetained]; retained {
		t.Error("the ledger in use is still labeled as retained")
	}
	w.expectWrites(t, 0, "after the adoption", func() {
		must[Snapshot](t)(store.Load(t.Context()))
		must[Snapshot](t)(store.Publish(t.Context()))
	})
}
