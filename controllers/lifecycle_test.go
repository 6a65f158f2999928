// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestACertificateIsIssuedAndRenewedAndItsExpiryIsReported(t *testing.T) {
	w := newWorld(t)
	authority, identity := anAuthority(), aClientIdentity()
	w.create(authority, identity)
	w.reconcile(authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
	w.written()

	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	want := []write{{"create", "Secret", "app-mtls"}, {"update status", "ClientIdentity", "app"}}
	if diff := cmp.Diff(want, w.written(), cmp.AllowUnexported(write{})); diff != "" {
		t.Errorf("writes of an issue (-want +got):\n%s", diff)
	}
	if events := w.events(); len(events) != 1 || !with(events, "Normal Issued", "Revision 1") {
		t.Errorf("Events of an issue: %q, want one Issued", events)
	}

	first := w.secret("app-mtls")
	w.restart()
	w.reconcile(identity)
	if writes := w.written(); len(writes) > 0 {
		t.Errorf("a restart with nothing due wrote %v", writes)
	}

	w.step(16*time.Hour + time.Minute)
	w.reconcile(identity)
	second := w.secret("app-mtls")
	if identity.Status.Revision != 2 || bytes.Equal(first.Data["tls.key"], second.Data["tls.key"]) {
		t.Errorf("revision %d after the renewal, want 2 with a new key", identity.Status.Revision)
	}
	if events := w.events(); !with(events, "Normal Issued", "Revision 2") {
		t.Errorf("Events of the renewal: %q", events)
	}

	// The authority is deleted: every level is reported once, and Ready turns False at the second of expiry.
	if err := w.client.Delete(w.ctx, w.secret("internal-ca")); err != nil {
		t.Fatal(err)
	}
	w.step(time.Minute)
	w.reconcile(authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityLost")
	var seen []string
	for range 2000 {
		result := w.reconcile(identity)
		seen = append(seen, w.events()...)
		if condition(identity, v1alpha1.ConditionReady) == "False/Expired" {
			break
		}
		if left := identity.Status.NotAfter.Sub(w.clock.Now()); left <= 0 {
			t.Fatalf("expired at %s, and at %s Ready is still %s", identity.Status.NotAfter, w.clock.Now(), condition(identity, v1alpha1.ConditionReady))
		}
		// Far from the end the test takes long steps; near it the wait is what the controller asked for.
		by := result.RequeueAfter
		if identity.Status.NotAfter.Sub(w.clock.Now()) > time.Hour {
			by = 10 * time.Minute
		}
		w.step(by)
	}
	if late := w.clock.Now().Sub(identity.Status.NotAfter.Time); late < 0 || late > time.Second {
		t.Errorf("Ready turned False %s after the expiry, want at the second", late)
	}
	for _, reason := range []string{"AuthorityNotReady", "ExpiresSoon", "ExpiresImminently", "Expired", "RotationOverdue"} {
		count := 0
		for _, line := range seen {
			if with([]string{line}, "Warning "+reason+" ") {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s was reported %d times, want once; all: %q", reason, count, seen)
		}
	}
}

func TestALoginIsCreatedAndRotatedAndTheOldOneRefused(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	w.create(aPolicy(), anAdminSecret(), aServer(), credential)
	w.settle(credential, 3)
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(credential, v1alpha1.ConditionVerified, "True/LoggedIn")
	first := w.secret("orders-db")
	if !w.database.Accepts(string(first.Data["username"]), string(first.Data["password"])) {
		t.Fatal("the published login is not accepted")
	}
	w.written()
	w.events()
	w.restart()
	w.settle(credential, 3)
	if writes := w.written(); len(writes) > 0 {
		t.Errorf("a restart with nothing due wrote %v", writes)
	}

	w.step(24*time.Hour + time.Minute)
	w.settle(credential, 5)
	second := w.secret("orders-db")
	if bytes.Equal(first.Data["username"], second.Data["username"]) {
		t.Fatal("the rotation did not change the login")
	}
	for name, secret := range map[string][2]string{
		"new": {string(second.Data["username"]), string(second.Data["password"])},
		"old": {string(first.Data["username"]), string(first.Data["password"])},
	} {
		if !w.database.Accepts(secret[0], secret[1]) {
			t.Errorf("the %s login is refused during the overlap", name)
		}
	}
	w.wantCondition(credential, v1alpha1.ConditionRotating, "True/Overlapping")
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")

	w.step(time.Hour + time.Minute)
	w.settle(credential, 5)
	if w.database.Accepts(string(first.Data["username"]), string(first.Data["password"])) {
		t.Error("the old login is accepted after it was retired")
	}
	w.wantCondition(credential, v1alpha1.ConditionRotating, "")
	if events := w.events(); !with(events, "Normal Rotated", "Revision 2") || !with(events, "Normal Retired") {
		t.Errorf("Events: %q", events)
	}
}

func TestDeletingWithDeleteDropsWhatWasCreated(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	credential.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	w.create(aPolicy(), anAdminSecret(), aServer(), credential)
	w.settle(credential, 3)
	if err := w.client.Delete(w.ctx, credential); err != nil {
		t.Fatal(err)
	}
	w.reconcile(credential)
	if _, ok := w.database.Login("orders_app_a"); ok {
		t.Error("the login still exists")
	}
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(credential), credential); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the object still exists (error %v)", err)
	}
}
