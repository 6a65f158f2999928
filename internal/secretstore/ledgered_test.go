// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

func TestLedgerAndSecretAreOneWriteEachAndNoneWhereNothingDiffers(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.Labels, opts.Annotations = map[string]string{"team": "web"}, map[string]string{"note": "x"}
	store := NewLedgered(opts)

	first := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, first, rotation.TargetMissing)
	if diff := cmp.Diff(Ledger{}, first.Ledger, sameLedger); diff != "" {
		t.Error(diff)
	}
	w.expectWrites(t, 1, "the first ledger", func() {
		snapshot := must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
		expectTarget(t, snapshot, rotation.TargetMissing)
	})
	w.expectWrites(t, 0, "the same ledger", func() { must[Snapshot](t)(store.Save(t.Context(), goodLedger())) })
	w.expectWrites(t, 1, "the first publication", func() {
		expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
	})
	w.expectWrites(t, 0, "a restart with nothing due", func() {
		again := NewLedgered(opts)
		snapshot := must[Snapshot](t)(again.Load(t.Context()))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if diff := cmp.Diff(goodLedger(), snapshot.Ledger, sameLedger); diff != "" {
			t.Error(diff)
		}
		must[Snapshot](t)(again.Save(t.Context(), snapshot.Ledger))
		must[Snapshot](t)(again.Publish(t.Context()))
	})

	got := w.secret(t, shown)
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"team": "web", v1alpha1.LabelManagedBy: "rekey", v1alpha1.LabelKind: "DatabaseCredential"},
			Annotations: map[string]string{
				"note": "x", v1alpha1.AnnotationOwner: "DatabaseCredential/orders", v1alpha1.AnnotationOwnerUID: "uid-of-orders",
				v1alpha1.AnnotationRevision:        "2",
				v1alpha1.AnnotationManagedMetadata: `{"labels":["team"],"annotations":["note"]}`,
			},
		},
		Type: v1alpha1.SecretTypePostgreSQL,
		Data: map[string][]byte{"type": []byte("postgresql"), "username": []byte("app_a"), "password": []byte(canary)},
	}
	if diff := cmp.Diff(bare(want), bare(got)); diff != "" {
		t.Error(diff)
	}
	ledger := w.secret(t, w.ledgerName("orders"))
	if len(ledger.OwnerReferences) > 0 || ledger.Type != v1alpha1.SecretTypeLedger || ledger.Labels[v1alpha1.LabelManagedBy] != "rekey" {
		t.Errorf("the ledger is %s with owners %v and labels %v", ledger.Type, ledger.OwnerReferences, ledger.Labels)
	}
}

func TestTheSlowerOfTwoWritersOfALedgerIsRefused(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	fast, slow := NewLedgered(opts), NewLedgered(opts)
	must[Snapshot](t)(fast.Load(t.Context()))
	must[Snapshot](t)(slow.Load(t.Context()))
	must[Snapshot](t)(fast.Save(t.Context(), goodLedger()))
	if _, err := slow.Save(t.Context(), Ledger{LastSeq: 9}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the second create returned %v", err)
	}
	must[Snapshot](t)(slow.Load(t.Context()))
	next := goodLedger()
	next.LastSeq = 4
	must[Snapshot](t)(fast.Save(t.Context(), next))
	if _, err := slow.Save(t.Context(), Ledger{LastSeq: 9}); !apierrors.IsConflict(err) {
		t.Errorf("the second update returned %v", err)
	}
	got := must[Snapshot](t)(NewLedgered(opts).Load(t.Context()))
	if diff := cmp.Diff(next, got.Ledger, sameLedger); diff != "" {
		t.Errorf("the refused writer changed something:\n%s", diff)
	}
	// The same for the user's Secret.
	must[Snapshot](t)(slow.Load(t.Context()))
	must[Snapshot](t)(fast.Publish(t.Context()))
	if _, err := slow.Publish(t.Context()); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the second Publish returned %v", err)
	}
}

func TestADeletedOrEditedSecretIsRepairedFromTheLedger(t *testing.T) {
	cases := map[string]struct {
		spoil func(*testing.T, world)
		want  rotation.TargetState
	}{
		"deleted":                  {func(t *testing.T, w world) { t.Helper(); w.drop(t, shown) }, rotation.TargetMissing},
		"password edited":          {change(func(s *corev1.Secret) { s.Data["password"] = []byte("guess") }), rotation.TargetDiffers},
		"key removed":              {change(func(s *corev1.Secret) { delete(s.Data, "password") }), rotation.TargetDiffers},
		"key added":                {change(func(s *corev1.Secret) { s.Data["more"] = []byte("x") }), rotation.TargetDiffers},
		"our label removed":        {change(func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelManagedBy) }), rotation.TargetDiffers},
		"label of template edited": {change(func(s *corev1.Secret) { s.Labels["team"] = "db" }), rotation.TargetDiffers},
		"revision edited":          {change(func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationRevision] = "77" }), rotation.TargetDiffers},
		"owner put on it": {change(func(s *corev1.Secret) {
			yes := true
			s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "rekey.dev/v1alpha1", Kind: "DatabaseCredential", Name: "orders", UID: "old", Controller: &yes}}
		}), rotation.TargetDiffers},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			opts.Labels = map[string]string{"team": "web"}
			w.published(t, opts)
			want := w.secret(t, shown)
			tc.spoil(t, w)
			store := NewLedgered(opts)
			expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), tc.want)
			w.expectWrites(t, 1, "healing", func() { must[Snapshot](t)(store.Publish(t.Context())) })
			if diff := cmp.Diff(bare(want), bare(w.secret(t, shown))); diff != "" {
				t.Errorf("not repaired:\n%s", diff)
			}
			expectTarget(t, must[Snapshot](t)(NewLedgered(opts).Load(t.Context())), rotation.TargetShowsCurrent)
		})
	}
}

func TestMetadataOfOthersIsKeptAndThatOfAShorterTemplateRemoved(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	opts.Labels = map[string]string{"one": "1", "two": "2"}
	opts.Annotations = map[string]string{"note": "x"}
	w.published(t, opts)
	w.edit(t, shown, func(s *corev1.Secret) {
		s.Labels["theirs"], s.Annotations["theirs"] = "kept", "kept"
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "theirs", UID: "x"}}
	})
	expectTarget(t, must[Snapshot](t)(NewLedgered(opts).Load(t.Context())), rotation.TargetShowsCurrent)

	opts.Labels, opts.Annotations = map[string]string{"two": "2"}, nil
	store := NewLedgered(opts)
	expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), rotation.TargetDiffers)
	must[Snapshot](t)(store.Publish(t.Context()))
	got := w.secret(t, shown)
	if diff := cmp.Diff([]string{v1alpha1.LabelManagedBy, v1alpha1.LabelKind, "theirs", "two"}, slices.Sorted(maps.Keys(got.Labels))); diff != "" {
		t.Error(diff)
	}
	if got.Annotations["theirs"] != "kept" || got.Annotations["note"] != "" || len(got.OwnerReferences) != 1 {
		t.Errorf("annotations %v, owners %v", got.Annotations, got.OwnerReferences)
	}
	// The list of what we set is on the Secret, where others can edit it.
	w.edit(t, shown, func(s *corev1.Secret) {
		s.Annotations[v1alpha1.AnnotationManagedMetadata] = `{"annotations":["rekey.dev/adopt","rekey.dev/owner"]}`
		s.Annotations[v1alpha1.AnnotationAdopt] = "Other/thing"
	})
	must[Snapshot](t)(store.Load(t.Context()))
	must[Snapshot](t)(store.Publish(t.Context()))
	if got := w.secret(t, shown); got.Annotations[v1alpha1.AnnotationAdopt] != "Other/thing" {
		t.Error("an edited list made us remove an annotation of the reserved prefix")
	}
}

func TestLedgerThatNamesAForeignLoginIsRefusedWhole(t *testing.T) {
	foreign := func(place func(*Ledger) *Record, slot, login string) func(*Ledger) {
		return func(l *Ledger) {
			record := place(l)
			record.Slot = slot
			record.Material = record.Material.With(credential.KeyUsername, []byte(login))
		}
	}
	current := func(l *Ledger) *Record { return l.Current }
	pending := func(l *Ledger) *Record { return l.Pending }
	cases := map[string]func(*Ledger){
		"current is another login":       foreign(current, "a", "postgres"),
		"current is the login of slot b": foreign(current, "a", "app_b"),
		"pending is another login":       foreign(pending, "b", canary),
		"pending is in an unknown slot":  foreign(pending, "c", "app_b"),
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			w.published(t, opts)
			ledger := goodLedger()
			spoil(&ledger)
			data := must[map[string][]byte](t)(EncodeLedger(ledger))
			w.edit(t, w.ledgerName("orders"), func(s *corev1.Secret) { s.Data = data })

			snapshot, err := NewLedgered(opts).Load(t.Context())
			expectFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
			if diff := cmp.Diff(Snapshot{}, snapshot, sameLedger); diff != "" {
				t.Error("part of it was returned")
			}
			for _, words := range []string{w.ledgerName("orders"), "app_a and app_b", "kubectl -n " + w.namespace + " delete secret"} {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q does not contain %q", err, words)
				}
			}
			store := NewLedgered(opts)
			store.loaded = true
			w.expectWrites(t, 0, "saving such a ledger", func() {
				_, err := store.Save(t.Context(), ledger)
				expectFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
			})
		})
	}
}

func TestSecretThatTookTheLedgersNameIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*corev1.Secret){
		"another type":  func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque },
		"another owner": func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationOwner] = "DatabaseCredential/other" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			opts.DeletionPolicy = v1alpha1.DeletionDelete
			planted := &corev1.Secret{Type: v1alpha1.SecretTypeLedger, Data: goodData(t)}
			planted.Name, planted.Annotations = w.ledgerName("orders"), map[string]string{v1alpha1.AnnotationOwner: "DatabaseCredential/orders"}
			spoil(planted)
			w.make(t, planted)
			_, err := NewLedgered(opts).Load(t.Context())
			expectFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
			w.expectWrites(t, 0, "withdrawing", func() {
				if err := NewLedgered(opts).Withdraw(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestEntriesOfALaterReleaseSurviveASave(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	w.published(t, opts)
	w.edit(t, w.ledgerName("orders"), func(s *corev1.Secret) { s.Data["later"] = []byte("kept") })
	store := NewLedgered(opts)
	ledger := must[Snapshot](t)(store.Load(t.Context())).Ledger
	ledger.Pending = nil
	must[Snapshot](t)(store.Save(t.Context(), ledger))
	got := w.secret(t, w.ledgerName("orders"))
	if string(got.Data["later"]) != "kept" {
		t.Error("an entry of a later release is gone")
	}
	if _, there := got.Data["pending"]; there {
		t.Error("a version that no longer exists is still recorded")
	}
}

func TestNothingIsWrittenBeforeItWasRead(t *testing.T) {
	w := world{Client: fake.NewClientBuilder().Build(), namespace: "default"}
	store := NewLedgered(w.ledgerOptions("orders"))
	if _, err := store.Save(t.Context(), goodLedger()); !errors.Is(err, errNotLoaded) {
		t.Errorf("Save: %v", err)
	}
	if _, err := store.Publish(t.Context()); !errors.Is(err, errNotLoaded) {
		t.Errorf("Publish: %v", err)
	}
	must[Snapshot](t)(store.Load(t.Context()))
	if _, err := store.Publish(t.Context()); err == nil {
		t.Error("a ledger without a current version was published")
	}
}

func TestDataThatCannotBeBuiltBlocksOnlyPublication(t *testing.T) {
	w := newWorld(t)
	opts := w.ledgerOptions("orders")
	w.published(t, opts)
	missing := fault.Blocked(fault.SecretNotFound, errors.New("no certificate of the server"))
	opts.Data = func(Record) (map[string][]byte, error) { return nil, missing }
	store := NewLedgered(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetDiffers)
	snapshot.Ledger.Pending = nil
	must[Snapshot](t)(store.Save(t.Context(), snapshot.Ledger))
	w.expectWrites(t, 0, "publishing", func() {
		_, err := store.Publish(t.Context())
		expectFault(t, err, fault.ClassBlocked, fault.SecretNotFound)
	})
}
