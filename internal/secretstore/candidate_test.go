// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// durableOptions are those of a certificate whose issuer answers later.
func (w world) durableOptions(who string) PublishedOptions {
	opts := w.publishedOptions(who)
	opts.Candidates = w.Client
	return opts
}

var candidateName = LedgerName("ClientIdentity", "app")

// requested returns a pending version as the driver records it.
func requested(seq int64) *Record {
	return &Record{
		Version:  rotation.Version{Seq: seq, Stage: rotation.Proposed, Fingerprint: "app"},
		Material: credential.Material{credential.KeyRequest: credential.SensitiveString("a request"), credential.KeyPrivateKey: credential.SensitiveString("a key")},
	}
}

func (w world) loaded(t *testing.T, opts PublishedOptions) (*Published, Snapshot) {
	t.Helper()
	store := NewPublished(opts)
	return store, must[Snapshot](t)(store.Load(t.Context()))
}

func TestAPendingCertificateOutlivesTheProcessUntilItIsPublished(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	store, _ := w.loaded(t, opts)
	pending := Ledger{Pending: requested(1), LastSeq: 1, Rotate: Tokens{Seen: "now"}}
	w.expectWrites(t, 1, "recording the candidate", func() { must[Snapshot](t)(store.Save(t.Context(), pending)) })
	ledger := w.secret(t, candidateName)
	if ledger == nil || ledger.Type != v1alpha1.SecretTypeLedger || len(ledger.OwnerReferences) != 1 || ledger.OwnerReferences[0].UID != opts.Owner.UID {
		t.Fatalf("the candidate's ledger is %+v, want one that is deleted with the object", ledger)
	}
	if w.secret(t, "mtls") != nil {
		t.Error("the user's Secret exists although nothing was issued")
	}
	w.expectWrites(t, 0, "a restart", func() {
		again, snapshot := w.loaded(t, opts)
		if diff := cmp.Diff(pending, snapshot.Ledger, sameLedger); diff != "" {
			t.Errorf("after a restart: %s", diff)
		}
		must[Snapshot](t)(again.Save(t.Context(), snapshot.Ledger))
	})
	record := issued(t, 1, "app")
	again, _ := w.loaded(t, opts)
	tokens := Tokens{Seen: "now", Honored: "now"}
	w.expectWrites(t, 2, "publishing it", func() {
		snapshot := must[Snapshot](t)(again.Save(t.Context(), Ledger{Current: &record, LastSeq: 1, Rotate: tokens}))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	})
	if w.secret(t, candidateName) != nil {
		t.Error("the ledger of a published version still exists")
	}
	_, snapshot := w.loaded(t, opts)
	if diff := cmp.Diff(Ledger{Current: stored(t, record), LastSeq: 1, Rotate: tokens}, snapshot.Ledger, sameLedger); diff != "" {
		t.Error(diff)
	}
}

func TestADiscardedCandidateLeavesNothing(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	w.issue(t, opts, issued(t, 1, "app"))
	store, snapshot := w.loaded(t, opts)
	ledger := snapshot.Ledger.Clone()
	ledger.Pending, ledger.LastSeq = requested(2), 2
	w.expectWrites(t, 1, "recording the candidate", func() { must[Snapshot](t)(store.Save(t.Context(), ledger)) })
	ledger.Pending = nil
	w.expectWrites(t, 1, "discarding it", func() {
		if got := must[Snapshot](t)(store.Save(t.Context(), ledger)); got.Ledger.Pending != nil {
			t.Error("the candidate is still pending")
		}
	})
	if w.secret(t, candidateName) != nil {
		t.Error("the ledger of a discarded version still exists")
	}
}

func TestTheLedgerOfAPublishedCandidateIsDeletedAfterACrash(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	store, _ := w.loaded(t, opts)
	must[Snapshot](t)(store.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1}))
	// The process dies between the two writes: the Secret shows the version, and its ledger is still there.
	w.issue(t, w.publishedOptions("app"), issued(t, 1, "app"))
	w.expectWrites(t, 1, "the next Load", func() {
		if _, snapshot := w.loaded(t, opts); snapshot.Ledger.Pending != nil || snapshot.Ledger.Current == nil {
			t.Errorf("the version is published and still pending: %+v", snapshot.Ledger)
		}
	})
	if w.secret(t, candidateName) != nil {
		t.Error("the ledger of a published version still exists")
	}
}

func TestADamagedCandidateCostsOneCertificateAndBlocksNothing(t *testing.T) {
	immutable := true
	for name, damage := range map[string]func(*corev1.Secret){
		"no data":          func(s *corev1.Secret) { s.Data = nil },
		"another encoding": func(s *corev1.Secret) { s.Data[ledgerKeyVersion] = []byte("99") },
		"half a version":   func(s *corev1.Secret) { s.Data[ledgerKeyPending] = s.Data[ledgerKeyPending][:10] },
		"a version of no stage": func(s *corev1.Secret) {
			s.Data[ledgerKeyPending] = []byte(`{"seq":1,"stage":"Current","fingerprint":"app"}`)
		},
		"staged, without its certificate": func(s *corev1.Secret) {
			s.Data[ledgerKeyPending] = bytes.Replace(s.Data[ledgerKeyPending], []byte(`"Proposed"`), []byte(`"Staged"`), 1)
		},
		"without its key": func(s *corev1.Secret) {
			s.Data[ledgerKeyPending] = []byte(`{"seq":1,"stage":"Proposed","fingerprint":"app","material":{"csr":"eA=="}}`)
		},
		"an earlier object's":     func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationOwnerUID] = "another" },
		"a copy of a cluster's":   func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationOwnerNamespace] = "elsewhere" },
		"damaged, and immutable":  func(s *corev1.Secret) { s.Data, s.Immutable = nil, &immutable },
		"without its owner's UID": func(s *corev1.Secret) { s.OwnerReferences, s.Data = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.durableOptions("app")
			opts.Owner.Namespace = w.namespace
			store, _ := w.loaded(t, opts)
			must[Snapshot](t)(store.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1}))
			w.edit(t, candidateName, damage)
			again, snapshot := w.loaded(t, opts)
			if snapshot.Ledger.Pending != nil {
				t.Fatal("a damaged candidate is used")
			}
			must[Snapshot](t)(again.Save(t.Context(), Ledger{Pending: requested(2), LastSeq: 2}))
			if _, snapshot := w.loaded(t, opts); snapshot.Ledger.Pending == nil || snapshot.Ledger.Pending.Seq != 2 {
				t.Errorf("the next candidate is not recorded: %+v", snapshot.Ledger.Pending)
			}
		})
	}
}

func TestASecretWithTheNameOfTheCandidatesLedgerIsNotChanged(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	w.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: candidateName}, Data: map[string][]byte{"a": []byte("value")}})
	store, _ := w.loaded(t, opts)
	w.expectWrites(t, 0, "recording a candidate", func() {
		_, err := store.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1})
		if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.SecretConflict {
			t.Errorf("got %v, want SecretConflict", err)
		}
	})
	// What is issued without a candidate is published anyway.
	record := issued(t, 1, "app")
	expectTarget(t, must[Snapshot](t)(store.Save(t.Context(), Ledger{Current: &record, LastSeq: 1})), rotation.TargetShowsCurrent)
}

func TestOfTwoProcessesOnlyOneRecordsACandidate(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	first, _ := w.loaded(t, opts)
	second, _ := w.loaded(t, opts)
	must[Snapshot](t)(second.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1}))
	if err := first.Confirm(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("an overtaken process continues: %v", err)
	}
	if _, err := first.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("both recorded a candidate: %v", err)
	}
	third, snapshot := w.loaded(t, opts)
	staged := snapshot.Ledger.Clone()
	staged.Pending.Stage = rotation.Staged
	must[Snapshot](t)(third.Save(t.Context(), staged))
	if err := second.Confirm(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("an overtaken process continues: %v", err)
	}
	if _, err := second.Save(t.Context(), Ledger{LastSeq: 1}); !apierrors.IsConflict(err) {
		t.Errorf("an overtaken process discards the candidate: %v", err)
	}
	if err := third.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWithdrawingACertificateDeletesItsCandidate(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		w := newWorld(t)
		opts := w.durableOptions("app")
		opts.DeletionPolicy = policy
		store, _ := w.loaded(t, opts)
		must[Snapshot](t)(store.Save(t.Context(), Ledger{Pending: requested(1), LastSeq: 1}))
		if err := store.Withdraw(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.secret(t, candidateName) != nil {
			t.Errorf("with %s the candidate's ledger outlives the object", policy)
		}
	}
}

func TestACertificateThatIsIssuedAtOnceReadsNoLedger(t *testing.T) {
	w := newWorld(t)
	opts := w.publishedOptions("app")
	w.issue(t, opts, issued(t, 1, "app"))
	before := w.reads.Load()
	store, snapshot := w.loaded(t, opts)
	must[Snapshot](t)(store.Save(t.Context(), snapshot.Ledger))
	if err := store.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if got := w.reads.Load() - before; got != 1 {
		t.Errorf("%d reads, want one: that of the Secret", got)
	}
}

// A process with an old cache must not settle what a later one recorded for a later state of the object. The user's Secret does not
// show that: nothing was published for that state yet.
func TestACandidateShowsForWhichStateOfTheObjectItWasRecorded(t *testing.T) {
	w := newWorld(t)
	at := func(version string) PublishedOptions {
		opts := w.durableOptions("app")
		opts.Owner.ResourceVersion = version
		return opts
	}
	w.issue(t, at("100"), issued(t, 1, "app"))
	if _, snapshot := w.loaded(t, at("100")); !snapshot.Overtaken {
		t.Error("without a candidate it is unknown whether one was settled for a later state")
	}
	store, snapshot := w.loaded(t, at("200"))
	ledger := snapshot.Ledger.Clone()
	ledger.Pending, ledger.LastSeq = requested(2), 2
	must[Snapshot](t)(store.Save(t.Context(), ledger))
	for version, want := range map[string]bool{"100": true, "199": true, "200": false, "201": false, "": true} {
		if _, snapshot := w.loaded(t, at(version)); snapshot.Overtaken != want {
			t.Errorf("with resource version %q after 200: overtaken is %t, want %t", version, snapshot.Overtaken, want)
		}
	}
	older, snapshot := w.loaded(t, at("150"))
	ledger = snapshot.Ledger.Clone()
	ledger.Pending.Fingerprint = "changed"
	must[Snapshot](t)(older.Save(t.Context(), ledger))
	if got := w.secret(t, candidateName).Annotations[v1alpha1.AnnotationOwnerVersion]; got != "200" {
		t.Errorf("an older writer has left the resource version %q, want 200", got)
	}
	later, _ := w.loaded(t, at("300"))
	w.expectWrites(t, 0, "recording the same candidate for a later state", func() { must[Snapshot](t)(later.Save(t.Context(), ledger)) })
}

// While the authority is not ready, nothing shows whether its certificates record when they were issued. A request that is recorded on the
// Secret meanwhile does not take the record away.
func TestTheTimeOfIssueIsKeptWhileTheAuthorityIsNotReady(t *testing.T) {
	w := newWorld(t)
	opts := w.durableOptions("app")
	opts.RecordIssue = true
	record := issued(t, 1, "app")
	record.CommittedAt = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	store, _ := w.loaded(t, opts)
	must[Snapshot](t)(store.Save(t.Context(), Ledger{Current: &record, LastSeq: 1}))
	recorded := w.secret(t, "mtls").Annotations[v1alpha1.AnnotationIssuedAt]
	if recorded == "" {
		t.Fatal("nothing is recorded")
	}
	opts.RecordIssue = false
	away, snapshot := w.loaded(t, opts)
	ledger := snapshot.Ledger.Clone()
	ledger.Rotate.Seen = "now"
	must[Snapshot](t)(away.Save(t.Context(), ledger))
	if got := w.secret(t, "mtls").Annotations; got[v1alpha1.AnnotationIssuedAt] != recorded || got[v1alpha1.AnnotationRotateSeen] != "now" {
		t.Errorf("the annotations are %v, want the time of issue %s and the request", got, recorded)
	}
	another := issued(t, 2, "app")
	again, _ := w.loaded(t, opts)
	must[Snapshot](t)(again.Save(t.Context(), Ledger{Current: &another, LastSeq: 2}))
	if got, found := w.secret(t, "mtls").Annotations[v1alpha1.AnnotationIssuedAt]; found {
		t.Errorf("another certificate, which shows when it was issued, is recorded as issued at %s", got)
	}
}
