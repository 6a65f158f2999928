// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// T4: the previous login is refused, and the ledger cannot be written. The refusal is reported once, and the status, which
// the world compares with the server, no longer names the login.
func TestARetirementIsReportedEvenIfItsRecordIsRefused(t *testing.T) {
	w, object := overlapping(t)
	w.refuse(writesOf("update", secretstore.LedgerName(kindDatabaseCredential, object.Name)))
	w.step(2 * time.Hour)
	reports := 0
	count := func() {
		if with(w.events(), "Normal Retired", "orders_app_a") {
			reports++
		}
	}
	for range 10 {
		w.reconcile(object)
		count()
		w.step(time.Minute)
	}
	if w.open("orders_app_a") || object.Status.Previous != nil {
		t.Errorf("the previous login is open: %t, and the status says %+v", w.open("orders_app_a"), object.Status.Previous)
	}
	w.fail = nil
	w.step(time.Hour)
	w.settle(object, 5)
	count()
	if reports != 1 {
		t.Errorf("the retirement was reported %d times, want once", reports)
	}
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
}

// T4: a deletion has removed the Secret, and deleting the ledger is refused: nothing is published, and the status reports that.
func TestAnUnfinishedDeletionIsReported(t *testing.T) {
	w, object := newWorld(t), aCredential()
	object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.refuse(writesOf("delete", secretstore.LedgerName(kindDatabaseCredential, object.Name)))
	if err := w.client.Delete(w.ctx, object); err != nil {
		t.Fatal(err)
	}
	w.reconcile(object)
	if got := condition(object, v1alpha1.ConditionReady); got == "True/Published" || object.Status.ActiveUsername != "" {
		t.Errorf("the Secret is deleted, and the status names login %q:%s", object.Status.ActiveUsername, describeConditions(object))
	}
	w.fail = nil
	w.step(time.Minute)
	w.reconcile(object)
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
		t.Errorf("the object still exists (error %v):%s", err, describeConditions(object))
	}
}
