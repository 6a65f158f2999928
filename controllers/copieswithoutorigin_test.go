// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// withoutOrigin selects every Secret, as written by a release that did not record the origin of Secrets.
func withoutOrigin(s *corev1.Secret) bool {
	delete(s.Annotations, v1alpha1.AnnotationOwnerNamespace)
	delete(s.Annotations, v1alpha1.AnnotationOwnerCluster)
	return true
}

// A ledger of the previous release is copied: nothing on it shows that, but the markers of both logins do.
func TestACopyWithoutOriginIsFencedByTheMarkers(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	other := w.beside(t)
	copied := aCredential()
	other.create(aPolicy(), anAdminSecret(), aServer())
	w.copySecrets(other, withoutOrigin)
	other.create(copied)
	other.settle(copied, 3)
	other.request(copied, v1alpha1.AnnotationRotate, "in the copy")
	other.settle(copied, 5)
	ledger, err := secretstore.DecodeLedger(other.secret(secretstore.LedgerName(kindDatabaseCredential, copied.Name)).Data)
	if err != nil || ledger.LastSeq != 1 {
		t.Errorf("the copy recorded version %d before it was fenced (%v)", ledger.LastSeq, err)
	}
	if stalled := condition(copied, v1alpha1.ConditionStalled); stalled != "True/Fenced" {
		t.Errorf("the copy rotates:%s", describeConditions(copied))
	}
	written, err := secretstore.DecodeLedger(other.secret(secretstore.LedgerName(kindDatabaseCredential, copied.Name)).Data)
	if err != nil || written.Pending != nil || written.LastSeq != 1 {
		t.Errorf("the copy has started a version (error %v)", err)
	}
	if logins := w.logins(); len(logins) != 1 {
		t.Errorf("%d logins, want the one of the first owner", len(logins))
	}
	w.request(object, v1alpha1.AnnotationRotate, "in the first")
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionStalled, "")
	if object.Status.Revision != 2 || !w.accepted("orders-db") {
		t.Errorf("the first owner is at revision %d:%s", object.Status.Revision, describeConditions(object))
	}
}

// The same without its ledger: the Secret alone would lead to a new ledger, through the login of the first owner.
func TestACopiedSecretWithoutOriginAndLedgerIsFencedByTheMarkers(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	other := w.beside(t)
	copied := aCredential()
	other.create(aPolicy(), anAdminSecret(), aServer())
	w.copySecrets(other, func(s *corev1.Secret) bool { return withoutOrigin(s) && s.Name == "orders-db" })
	before := other.data()
	other.create(copied)
	other.settle(copied, 3)
	other.wantFenced(copied, w, "Fenced")
	if diff := cmp.Diff(before, other.data()); diff != "" {
		t.Error("Secrets of the copy changed, or a ledger was created")
	}
	if err := w.client.Delete(w.ctx, object); err != nil {
		t.Fatal(err)
	}
	w.reconcile(object)
	other.request(copied, v1alpha1.AnnotationTakeOverFrom, w.clusterUID()+"/"+w.namespace)
	for range 3 {
		other.step(time.Minute)
		other.settle(copied, 5)
	}
	other.wantCondition(copied, v1alpha1.ConditionReady, "True/Published")
	if login, _ := w.database.Login("orders_app_a"); !strings.Contains(login.Owner, other.namespace) {
		t.Errorf("the login was handed over, and its marker names %s:%s", login.Owner, describeConditions(copied))
	}
}

// Another owner's Secret in place of the object's own is damage: the ledger is intact, and is published again.
func TestACopyInPlaceOfOurSecretIsRepaired(t *testing.T) {
	w := newWorld(t)
	ready(w, aPolicy(), anAdminSecret(), aServer(), aCredential())
	other := newWorld(t)
	object := aCredential()
	ready(other, aPolicy(), anAdminSecret(), aServer(), object)
	own := other.secret("orders-db").Data
	w.copySecrets(other, usersSecrets)
	other.settle(object, 5)
	other.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	if diff := cmp.Diff(own, other.secret("orders-db").Data); diff != "" {
		t.Error("applications read the login of another namespace")
	}
	if _, ok := w.database.Login("orders_app_b"); ok {
		t.Error("a login rotated")
	}
}
