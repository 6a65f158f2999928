// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestABriefFailureToReadTheAdminSecretIsNotReported(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), credential)
	w.breakReads(t, func(name string) error {
		if name == "orders-admin" {
			return errors.New("the API server does not answer")
		}
		return nil
	})
	w.reconcile(credential)
	w.wantCondition(credential, v1alpha1.ConditionReconciling, "")
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")
	if events := w.events(); len(events) > 0 {
		t.Errorf("Events with nothing due: %q", events)
	}
}

func TestADeletedSecretIsRepairedWithoutTheAdmin(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), credential)
	before := w.secret("orders-db")
	admin := w.secret("orders-admin")
	w.edit(admin, func() { delete(admin.Labels, v1alpha1.LabelAllow) })
	if err := w.client.Delete(w.ctx, before); err != nil {
		t.Fatal(err)
	}
	w.settle(credential, 3)
	if now := w.secret("orders-db"); string(now.Data["uri"]) != string(before.Data["uri"]) {
		t.Error("the repaired Secret differs from the deleted one")
	}
}

func TestEveryNewCertificateIsReported(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	if err := w.client.Delete(w.ctx, w.secret("app-mtls")); err != nil {
		t.Fatal(err)
	}
	w.step(time.Minute)
	w.reconcile(identity)
	if events := w.events(); !with(events, "Normal Issued") {
		t.Errorf("Events after the Secret was deleted and reissued: %q", events)
	}
}
