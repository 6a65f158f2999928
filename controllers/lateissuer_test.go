// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer/certificate"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/lateissuer"
	"github.com/rekey/rekey/test/size"
)

// lateWorld has an authority that answers later, and an identity that was not reconciled yet.
func lateWorld(t *testing.T) (*world, *lateissuer.Server, *v1alpha1.CertificateAuthority, *v1alpha1.ClientIdentity) {
	t.Helper()
	return lateWorldOf(t, lateissuer.Opener{})
}

// lateWorldOf is the same with other habits of the issuer.
func lateWorldOf(t *testing.T, opener lateissuer.Opener) (*world, *lateissuer.Server, *v1alpha1.CertificateAuthority, *v1alpha1.ClientIdentity) {
	t.Helper()
	w := newWorld(t)
	server, err := lateissuer.New(w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	opener.Server = server
	w.issuers[v1alpha1.AuthorityTypeKeyPair] = opener
	w.restart()
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "late-token", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Data:       map[string][]byte{lateissuer.KeyToken: lateissuer.Secret()[lateissuer.KeyToken].Reveal()},
	}
	authority := fixture.Authority(func(a *v1alpha1.CertificateAuthority) { fixture.SetKeyPair(&a.Spec, "late-token") })
	ready(w, token, authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
	identity := aClientIdentity()
	w.create(identity)
	return w, server, authority, identity
}

// candidateLedger returns the ledger of the identity's candidate; nil if there is none.
func (w *world) candidateLedger(identity *v1alpha1.ClientIdentity) *corev1.Secret {
	w.t.Helper()
	var out corev1.Secret
	err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: secretstore.LedgerName(kindClientIdentity, identity.Name)}, &out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &out
}

// live reconciles for a while, at the times that the object asks for.
func (w *world) live(o client.Object, length time.Duration) {
	w.t.Helper()
	for end := w.clock.Now().Add(length); w.clock.Now().Before(end); {
		w.step(max(w.reconcile(o).RequeueAfter, time.Second))
	}
}

func TestACertificateIsIssuedAndRenewedByAnIssuerThatAnswersLater(t *testing.T) {
	w, server, _, identity := lateWorld(t)
	wait := w.reconcile(identity).RequeueAfter
	ledger := w.candidateLedger(identity)
	if ledger == nil || server.Requests() != 1 {
		t.Fatalf("the candidate's ledger is %v after %d requests", ledger, server.Requests())
	}
	kept, err := secretstore.DecodeLedger(ledger.Data)
	if err != nil {
		t.Fatal(err)
	}

	w.restart()
	w.step(wait)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	published := w.secret("app-mtls")
	if !bytes.Equal(published.Data[credential.KeyPrivateKey], kept.Pending.Material[credential.KeyPrivateKey].Reveal()) {
		t.Error("the published key is not the one that was recorded before the request")
	}
	if server.Requests() != 1 || w.candidateLedger(identity) != nil {
		t.Errorf("%d requests; the candidate's ledger is %v", server.Requests(), w.candidateLedger(identity))
	}
	if at := published.Annotations[v1alpha1.AnnotationIssuedAt]; at != w.clock.Now().Format(time.RFC3339) {
		t.Errorf("it is recorded as issued at %q, want %s", at, w.clock.Now().Format(time.RFC3339))
	}

	w.written()
	questions := server.Questions()
	for range 3 {
		w.restart()
		w.step(5 * time.Minute)
		w.reconcile(identity)
	}
	if writes := w.written(); len(writes) > 0 || server.Questions() != questions {
		t.Errorf("the next reconciles wrote %v and asked the issuer %d times", writes, server.Questions()-questions)
	}

	w.clock.SetTime(identity.Status.RenewalTime.Add(time.Second))
	w.live(identity, 10*time.Minute)
	renewed := w.secret("app-mtls")
	before, after := leafIn(published), leafIn(renewed)
	if server.Requests() != 2 || bytes.Equal(before.Raw, after.Raw) || bytes.Equal(before.AuthorityKeyId, after.AuthorityKeyId) {
		t.Errorf("%d requests; serial numbers %x and %x, keys %x and %x", server.Requests(), before.SerialNumber, after.SerialNumber, before.AuthorityKeyId, after.AuthorityKeyId)
	}
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.live(identity, time.Hour)
	if server.Requests() != 2 || w.candidateLedger(identity) != nil {
		t.Errorf("%d requests; the candidate's ledger is %v", server.Requests(), w.candidateLedger(identity))
	}
}

func TestAnIssuerThatDoesNotAnswerForADayGetsOneRequest(t *testing.T) {
	w, server, _, identity := lateWorld(t)
	server.Hold(true)
	restarts := size.Choose(2, 4, 4)
	hours := restarts * size.Number(1, 6) // make crash lives the whole day.
	for range restarts {
		w.live(identity, time.Duration(hours/restarts)*time.Hour)
		w.restart()
	}
	if server.Requests() != 1 || server.Questions() < hours {
		t.Errorf("in %d hours, %d requests in %d questions", hours, server.Requests(), server.Questions())
	}
	server.Hold(false)
	w.live(identity, time.Hour)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if server.Requests() != 1 {
		t.Errorf("%d requests", server.Requests())
	}
}

func TestACertificateFromAClockThatIsAheadIsPublishedOnceItIsValid(t *testing.T) {
	w, server, _, identity := lateWorld(t)
	server.SetAhead(lateissuer.Backdate + 2*time.Minute)
	w.live(identity, 90*time.Second)
	w.restart()
	w.reconcile(identity)
	if cond := meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReady); cond == nil || cond.Reason == v1alpha1.ReasonCertificateInvalid {
		t.Errorf("while it waits, Ready is %v", cond)
	}
	w.live(identity, 3*time.Minute)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if leaf := leafIn(w.secret("app-mtls")); server.Requests() != 1 || w.clock.Now().Before(leaf.NotBefore) {
		t.Errorf("%d requests; it is valid from %s, now it is %s", server.Requests(), leaf.NotBefore, w.clock.Now())
	}
}

// Without its authority nothing shows whether the identity's issuer answers later, except the candidate itself.
func TestAMissingAuthorityCostsNoCandidate(t *testing.T) {
	w, server, authority, identity := lateWorld(t)
	w.reconcile(identity)
	before := w.candidateLedger(identity)
	if err := w.client.Delete(w.ctx, authority); err != nil {
		t.Fatal(err)
	}
	w.reconcile(authority)
	w.restart()
	w.live(identity, time.Hour)
	if after := w.candidateLedger(identity); after == nil || after.UID != before.UID {
		t.Fatalf("the candidate's ledger is %v", after)
	}
	w.create(fixture.Authority(func(a *v1alpha1.CertificateAuthority) { fixture.SetKeyPair(&a.Spec, "late-token") }))
	w.live(identity, time.Hour)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if server.Requests() != 1 {
		t.Errorf("%d requests", server.Requests())
	}
}

// Not ready is like missing: meanwhile, it is unknown which key signs. That does not end a candidate.
func TestAnAuthorityThatComesAndGoesCostsNoCandidate(t *testing.T) {
	w, server, authority, identity := lateWorldOf(t, lateissuer.Opener{OneKey: true})
	server.Hold(true)
	w.reconcile(identity)
	before := w.candidateLedger(identity)
	token := w.secret("late-token")
	for range 3 {
		for _, allowed := range []string{"false", "true"} {
			w.edit(token, func() { token.Labels[v1alpha1.LabelAllow] = allowed })
			w.live(identity, 2*time.Minute)
		}
	}
	if after := w.candidateLedger(identity); after == nil || after.UID != before.UID || server.Requests() != 1 {
		t.Fatalf("%d requests; the candidate's ledger is %v", server.Requests(), after)
	}
	server.Hold(false)
	w.reconcile(authority)
	w.live(identity, time.Hour)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if server.Requests() != 1 {
		t.Errorf("%d requests", server.Requests())
	}
}

// A candidate that can never be published is given up, and the next requests come less and less often.
func TestABrokenIssuerGetsFewRequestsAndItsIdentityRecovers(t *testing.T) {
	for name, breaks := range map[string]struct {
		set    func(*lateissuer.Server, bool)
		reason string
	}{
		"it denies every request":    {(*lateissuer.Server).SetDenies, "IssuanceFailed"},
		"it signs with other usages": {(*lateissuer.Server).SetErrs, "CertificateInvalid"},
	} {
		t.Run(name, func(t *testing.T) {
			w, server, _, identity := lateWorld(t)
			breaks.set(server, true)
			w.live(identity, 3*time.Hour)
			w.wantCondition(identity, v1alpha1.ConditionStalled, "True/"+breaks.reason)
			if n := server.Requests(); n < 4 || n > 10 {
				t.Errorf("in three hours, %d requests", n)
			}
			breaks.set(server, false)
			w.live(identity, 2*time.Hour)
			w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
			if ledger := w.candidateLedger(identity); ledger != nil {
				t.Errorf("the candidate's ledger is %v", ledger)
			}
		})
	}
}

func TestACandidateThatExpiredWhileRekeyWasDownIsReplaced(t *testing.T) {
	w, server, _, identity := lateWorld(t)
	server.SetAhead(lateissuer.Backdate + 4*time.Minute) // it waits until it is valid
	w.live(identity, time.Minute)
	if ledger := w.candidateLedger(identity); ledger == nil || server.Requests() != 1 {
		t.Fatalf("%d requests; the candidate's ledger is %v", server.Requests(), ledger)
	}
	server.SetAhead(0)
	w.step(identity.Spec.Lifetime.Duration + time.Hour)
	w.restart()
	w.live(identity, time.Hour)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if ledger := w.candidateLedger(identity); ledger != nil || server.Requests() != 2 {
		t.Errorf("%d requests; the candidate's ledger is %v", server.Requests(), ledger)
	}
}

// The ledger holds a private key, so it must not outlive what it was recorded for.
func TestAnIdentityThatMovesToAnAuthorityThatAnswersAtOnceLeavesNoCandidate(t *testing.T) {
	w, server, _, identity := lateWorld(t)
	server.Hold(true)
	w.reconcile(identity)
	if w.candidateLedger(identity) == nil {
		t.Fatal("no candidate is recorded")
	}
	prompt := fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.Name = "prompt" })
	w.create(prompt)
	w.settle(prompt, 3)
	w.edit(identity, func() { identity.Spec.AuthorityRef.Name = "prompt" })
	w.live(identity, 5*time.Minute)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if ledger := w.candidateLedger(identity); ledger != nil {
		t.Errorf("the candidate's ledger is %v", ledger)
	}
}

// A verified candidate needs its authority no more. Its time of issue is recorded even then: the certificate does not show it.
func TestACandidateThatIsPublishedWithoutItsAuthorityRecordsItsTimeOfIssue(t *testing.T) {
	w, _, authority, identity := lateWorld(t)
	wait := w.reconcile(identity).RequeueAfter
	w.fail = func(this write) error {
		if this.kind == "Secret" && this.name == "app-mtls" {
			return apierrors.NewInternalError(errors.New("down"))
		}
		return nil
	}
	w.step(wait)
	w.live(identity, time.Minute)
	if w.candidateLedger(identity) == nil {
		t.Fatal("no candidate is recorded")
	}
	w.fail = nil
	if err := w.client.Delete(w.ctx, authority); err != nil {
		t.Fatal(err)
	}
	w.reconcile(authority)
	w.restart()
	w.live(identity, time.Minute)
	published := w.secret("app-mtls")
	at, err := time.Parse(time.RFC3339, published.Annotations[v1alpha1.AnnotationIssuedAt])
	if err != nil || at.Before(leafIn(published).NotBefore.Add(lateissuer.Backdate)) {
		t.Errorf("recorded as issued at %q, valid from %s: %v", published.Annotations[v1alpha1.AnnotationIssuedAt], leafIn(published).NotBefore, err)
	}
}

// Nothing is recorded for such a certificate, so another owner's Secret of that name does not matter.
func TestASecretWithTheNameOfALedgerBlocksNoCertificateThatIsSignedAtOnce(t *testing.T) {
	w := newWorld(t)
	authority, identity := fixture.Authority(), aClientIdentity()
	ready(w, authority)
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name: secretstore.LedgerName(kindClientIdentity, identity.Name), Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
	}}
	w.create(foreign)
	w.create(identity)
	w.live(identity, time.Minute)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if kept := w.candidateLedger(identity); kept == nil || kept.ResourceVersion != foreign.ResourceVersion {
		t.Errorf("the other Secret is now %v", kept)
	}
}

func TestADeletedIdentityLeavesNoCandidate(t *testing.T) {
	w, _, _, identity := lateWorld(t)
	w.reconcile(identity)
	ledger := w.candidateLedger(identity)
	if owner := metav1.GetControllerOf(ledger); owner == nil || owner.UID != identity.UID {
		t.Errorf("the ledger's owners are %v: it is not deleted with the identity", ledger.OwnerReferences)
	}
	if len(identity.Finalizers) > 0 {
		t.Errorf("the identity has the finalizers %v", identity.Finalizers)
	}
}

func leafIn(secret *corev1.Secret) *x509.Certificate {
	return certificate.Leaf(credential.Material{credential.KeyCertificate: credential.NewSensitive(secret.Data[credential.KeyCertificate])})
}
