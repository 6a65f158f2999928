// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

const shown = "orders-db" // the user's Secret

// loginData is the data of a login's user's Secret in these tests.
func loginData(current Record) (map[string][]byte, error) {
	return map[string][]byte{
		"type":                 []byte("postgresql"),
		credential.KeyUsername: current.Material[credential.KeyUsername].Reveal(),
		credential.KeyPassword: current.Material[credential.KeyPassword].Reveal(),
	}, nil
}

func (w world) ledgerOptions(who string) LedgeredOptions {
	return LedgeredOptions{
		Options: Options{
			Client: w.Client, Live: w.Client, Owner: owner("DatabaseCredential", who), DeletionPolicy: v1alpha1.DeletionRetain,
			Namespace: w.namespace, SecretName: shown, SecretType: v1alpha1.SecretTypePostgreSQL, Data: loginData,
		},
		Check: checkTestLogins, Candidate: testCandidate, ShownKeys: []string{credential.KeyUsername, credential.KeyPassword},
	}
}

// testLogins are the logins that the spec derives in these tests, by slot.
var testLogins = map[string]string{"a": "app_a", "b": "app_b"}

func checkTestLogins(l Ledger) error {
	for name, record := range l.Records() {
		login, ok := testLogins[record.Slot]
		if named := record.Material.String(credential.KeyUsername); !ok || named != "" && named != login {
			return fmt.Errorf("its %s version names a login or a slot that is not derived from the spec (those are app_a and app_b)", name)
		}
	}
	return nil
}

func testCandidate(data map[string][]byte) (string, credential.Material, bool) {
	for slot, login := range testLogins {
		if login == string(data[credential.KeyUsername]) && len(data[credential.KeyPassword]) > 0 {
			return slot, credential.Material{
				credential.KeyUsername: credential.NewSensitive(data[credential.KeyUsername]),
				credential.KeyPassword: credential.NewSensitive(data[credential.KeyPassword]),
			}, true
		}
	}
	return "", nil, false
}

// published advances a credential until its user's Secret shows version 2.
func (w world) published(t *testing.T, opts LedgeredOptions) {
	t.Helper()
	store := NewLedgered(opts)
	must[Snapshot](t)(store.Load(t.Context()))
	must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
	snapshot := must[Snapshot](t)(store.Publish(t.Context()))
	if snapshot.Target != rotation.TargetShowsCurrent {
		t.Fatalf("target %s after Publish", snapshot.Target)
	}
}

func (w world) ledgerName(who string) string { return LedgerName("DatabaseCredential", who) }

func expectFault(t *testing.T, err error, class fault.Class, reason fault.Reason) {
	t.Helper()
	if fault.Classify(err) != class || fault.ReasonOf(err, "") != reason {
		t.Errorf("got %v (%v, %v), want %v, %v", err, fault.Classify(err), fault.ReasonOf(err, ""), class, reason)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Error("the error shows a password")
	}
}

func expectTarget(t *testing.T, snapshot Snapshot, want rotation.TargetState) {
	t.Helper()
	if snapshot.Target != want {
		t.Errorf("target is %s (%s), want %s", snapshot.Target, snapshot.Conflict, want)
	}
	if (snapshot.Conflict != "") != (want == rotation.TargetForeign) {
		t.Errorf("conflict %q with target %s", snapshot.Conflict, snapshot.Target)
	}
	if strings.Contains(snapshot.Conflict, canary) {
		t.Error("the conflict shows a password")
	}
}

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

// bare keeps the fields that a test compares.
func bare(secret *corev1.Secret) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Labels: secret.Labels, Annotations: secret.Annotations, OwnerReferences: secret.OwnerReferences},
		Type:       secret.Type, Data: secret.Data,
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

func change(f func(*corev1.Secret)) func(*testing.T, world) {
	return func(t *testing.T, w world) { t.Helper(); w.edit(t, shown, f) }
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

// readerFunc is a reader of single objects.
type readerFunc func(ctx context.Context, key client.ObjectKey, obj client.Object) error

func (f readerFunc) Get(ctx context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	return f(ctx, key, obj)
}

func (f readerFunc) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is listed")
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

func TestADeletedLedgerIsRecreatedOnlyFromALoginThatWorks(t *testing.T) {
	w := newWorld(t)
	base := w.ledgerOptions("orders")
	w.published(t, base)
	began := w.secret(t, shown).CreationTimestamp.UTC()
	w.drop(t, w.ledgerName("orders"))
	unreachable := errors.New("connection refused")
	asked := 0
	with := func(answer credential.Answer, err error) *Ledgered {
		opts := base
		opts.Recover = func(_ context.Context, c Record, _ string) (Ledger, credential.Answer, error) {
			asked++
			if c.Seq != 2 || c.Slot != "a" || c.Stage != rotation.Current || c.Material.String("username") != "app_a" ||
				c.Material.String("password") != canary || c.CommittedAt.Before(began) || c.PublishedAt.Sub(began) > time.Minute {
				t.Errorf("the candidate is %+v", c.Version)
			}
			c.Fingerprint = "completed"
			return Ledger{Current: &c, LastSeq: c.Seq}, answer, err
		}
		return NewLedgered(opts)
	}

	w.expectWrites(t, 0, "an unclear answer", func() {
		_, err := with(credential.Unknown, unreachable).Load(t.Context())
		if !errors.Is(err, unreachable) {
			t.Errorf("got %v", err)
		}
		expectFault(t, err, fault.ClassTransient, "")
		_, err = with(credential.Unknown, nil).Load(t.Context())
		expectFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
		_, err = with(credential.Unknown, fault.Blocked(fault.ServerNotFound, unreachable)).Load(t.Context())
		expectFault(t, err, fault.ClassBlocked, fault.ServerNotFound)
	})
	w.expectWrites(t, 0, "a refused login", func() {
		snapshot := must[Snapshot](t)(with(credential.Rejected, unreachable).Load(t.Context()))
		if diff := cmp.Diff(Ledger{LastSeq: 2}, snapshot.Ledger, sameLedger); diff != "" {
			t.Errorf("it did not start from scratch above the shown number:\n%s", diff)
		}
		expectTarget(t, snapshot, rotation.TargetDiffers)
	})
	w.expectWrites(t, 1, "a login that works", func() {
		snapshot := must[Snapshot](t)(with(credential.Accepted, nil).Load(t.Context()))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	})
	asked = 0
	snapshot := must[Snapshot](t)(with(credential.Unknown, unreachable).Load(t.Context()))
	if got := snapshot.Ledger.Current; got == nil || got.Seq != 2 || got.Fingerprint != "completed" || snapshot.Ledger.LastSeq != 2 {
		t.Errorf("the recreated ledger is %+v", snapshot.Ledger)
	}
	if asked > 0 {
		t.Error("an existing ledger was recovered again")
	}
}

func TestNothingIsRecoveredFromASecretThatIsNotAProof(t *testing.T) {
	cases := map[string]func(*corev1.Secret){
		"not ours": func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationOwner) },
		"handed over only": func(s *corev1.Secret) {
			s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "DatabaseCredential/orders"}
		},
		"a foreign login": func(s *corev1.Secret) { s.Data["username"] = []byte("postgres") },
		"no password":     func(s *corev1.Secret) { delete(s.Data, "password") },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			w.published(t, opts)
			w.drop(t, w.ledgerName("orders"))
			w.edit(t, shown, spoil)
			opts.Recover = func(context.Context, Record, string) (Ledger, credential.Answer, error) {
				t.Error("a login was attempted")
				return Ledger{}, credential.Accepted, nil
			}
			snapshot := must[Snapshot](t)(NewLedgered(opts).Load(t.Context()))
			if snapshot.Ledger.Current != nil {
				t.Error("a version was taken from it")
			}
		})
	}
}

func TestNoErrorQuotesASecret(t *testing.T) {
	ctx := t.Context()
	quoting := &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden,
		Message: "admission webhook denied: data is " + canary,
	}}
	refuse := func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return quoting }
	c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{Create: refuse})
	w := world{Client: c, namespace: "default"}
	store := NewLedgered(w.ledgerOptions("orders"))
	must[Snapshot](t)(store.Load(ctx))
	store.content = goodLedger()
	_, err := store.Publish(ctx)
	expectFault(t, err, fault.ClassTransient, fault.APIServerFailed)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("the API server's error is lost: %v", err)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != 403 {
		t.Errorf("the code is lost: %v", err)
	}
}

func TestAnswersOfTheAPIServerComeThrough(t *testing.T) {
	ctx := t.Context()
	broken := apierrors.NewInternalError(errors.New("etcd is down"))
	cases := map[string]interceptor.Funcs{
		"read": {Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return broken
		}},
		"create": {Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return broken }},
	}
	for name, funcs := range cases {
		t.Run(name, func(t *testing.T) {
			w := world{Client: interceptor.NewClient(fake.NewClientBuilder().Build(), funcs), namespace: "default"}
			store := NewLedgered(w.ledgerOptions("orders"))
			_, err := store.Load(ctx)
			if err == nil {
				_, err = store.Save(ctx, goodLedger())
			}
			expectFault(t, err, fault.ClassTransient, fault.APIServerFailed)
			if !apierrors.IsInternalError(err) {
				t.Errorf("got %v", err)
			}
		})
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
