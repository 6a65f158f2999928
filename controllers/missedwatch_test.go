// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rekey/rekey/api/v1alpha1"
)

// R26: no watch reports a change; there are no watches here at all. The change is found when the object is reconciled on its
// own: within the hour if all was well, within half a minute if something was missing.
func TestAChangeIsFoundWithoutAnyWatch(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	login := w.secret("orders-db")
	edited := login.DeepCopy()
	edited.Data["password"] = []byte("edited-by-hand")
	result := w.reconcile(object)
	if err := w.client.Update(w.ctx, edited); err != nil {
		t.Fatal(err)
	}
	if result.RequeueAfter <= 0 || result.RequeueAfter > time.Hour {
		t.Fatalf("it sleeps for %s", result.RequeueAfter)
	}
	w.step(result.RequeueAfter)
	w.settle(object, 3)
	if string(w.secret("orders-db").Data["password"]) != string(login.Data["password"]) {
		t.Error("the edited Secret was not repaired")
	}

	server := aServer()
	server.Name, server.Spec.AdminSecretRef.Name = "other", "other-admin"
	w.create(server)
	result = w.reconcile(server)
	w.wantCondition(server, v1alpha1.ConditionReady, "False/SecretNotFound")
	admin := anAdminSecret()
	admin.Name = "other-admin"
	w.create(admin)
	if result.RequeueAfter <= 0 || result.RequeueAfter > 30*time.Second {
		t.Fatalf("it looks for what is missing only after %s", result.RequeueAfter)
	}
	w.step(result.RequeueAfter)
	w.reconcile(server)
	w.wantCondition(server, v1alpha1.ConditionReady, "True/Serving")
}

// R27: every write of a life in turn is answered with a conflict, as if another writer had been faster. This never counts as a
// failed rotation, and nothing is created twice.
func TestAConflictOnAnyWriteRotatesNothingTwice(t *testing.T) {
	for nth := 1; ; nth++ {
		w := newWorld(t)
		object := aCredential()
		w.create(aPolicy(), anAdminSecret(), aServer(), object)
		seen, hit := 0, write{}
		w.fail = func(of write) error {
			if seen++; seen == nth {
				hit = of
				return apierrors.NewConflict(schema.GroupResource{Resource: of.kind}, of.name, errors.New("another writer was faster"))
			}
			return nil
		}
		live := func() {
			for range 6 {
				w.reconcile(object)
				w.step(2 * time.Second)
			}
		}
		live()
		w.step(25 * time.Hour)
		live()
		w.step(2 * time.Hour)
		live()
		if seen < nth {
			if nth < 10 {
				t.Errorf("a life has only %d writes", nth-1)
			}
			return
		}
		where := fmt.Sprintf("conflict in write %d (%s %s %s)", nth, hit.verb, hit.kind, hit.name)
		if object.Status.Revision != 2 || !w.accepted("orders-db") {
			t.Errorf("%s: revision %d, want 2:%s", where, object.Status.Revision, describeConditions(object))
		}
		if stages := w.database.Calls("Stage"); stages > 3 {
			t.Errorf("%s: the database got a login %d times", where, stages)
		}
		if events := w.events(); with(events, "Warning ") {
			t.Errorf("%s: it was reported as a failure: %q", where, events)
		}
		w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
		w.wantCondition(object, v1alpha1.ConditionRotating, "")
	}
}

// R20: a user writes a wrong password into the admin Secret while a rotation is due. The published login keeps working, the
// reason is reported, and the rotation happens once the Secret is right again.
func TestABrokenAdminSecretLocksNoClientOut(t *testing.T) {
	w := newPGWorld(t, servers.Of(t, 15))
	ready(w.world, w.object, w.credential)
	published := w.secret("orders-db")
	admin := w.secret("orders-admin")
	w.edit(admin, func() { admin.Data["password"] = []byte("wrong-password-of-the-test") })
	w.step(25 * time.Hour)
	for range 5 {
		w.reconcile(w.credential)
		w.step(time.Minute)
	}
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(w.credential, v1alpha1.ConditionRotating, "True/AdminRejected")
	if now := w.secret("orders-db"); string(now.Data["uri"]) != string(published.Data["uri"]) || !w.accepted(now) {
		t.Error("the published login was harmed")
	}
	w.edit(admin, func() { admin.Data["password"] = []byte(adminPassword) })
	w.step(time.Hour)
	w.settle(w.credential, 5)
	if w.credential.Status.Revision != 2 || !w.accepted(w.secret("orders-db")) {
		t.Errorf("revision %d after the Secret was right again:%s", w.credential.Status.Revision, describeConditions(w.credential))
	}
}

// R24: more credentials than there are workers hang at a silent server, and an identity misses its authority. Everything
// else continues.
func TestAHangingServerBlocksNoOtherObject(t *testing.T) {
	t.Parallel()
	m := startManaged(t, logr.Discard())
	m.create(aPolicy(), anAdminSecret(), aServer(), anAuthority())
	for n := range 8 { // Of four workers.
		object := aCredential()
		object.Name, object.Spec.SecretName = fmt.Sprint("hangs-", n), v1alpha1.ObjectName(fmt.Sprint("hangs-", n))
		object.Spec.Username = fmt.Sprint("orders_", n)
		if n == 0 {
			m.database.SetHang(true)
		}
		m.create(object)
	}
	lost := aClientIdentity()
	lost.Name, lost.Spec.SecretName, lost.Spec.AuthorityRef.Name = "lost", "lost", "nowhere"
	client, server := aClientIdentity(), aServerIdentity()
	m.create(lost, client, server)
	m.becomes(client, v1alpha1.ConditionReady, "True/Published")
	m.becomes(server, v1alpha1.ConditionReady, "True/Published")
	m.becomes(lost, v1alpha1.ConditionReady, "False/AuthorityNotFound")
	if m.database.Calls("Marker") == 0 {
		t.Error("nothing hung")
	}
	m.database.SetHang(false)
}
