// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// T4: until the Secret holds a version, no Event and no status field calls it published.
func TestNothingIsCalledPublishedBeforeTheSecretHoldsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		first    bool
		hold     func(w *world)
		repair   func(w *world)
		revision int64
		login    string
		// made is whether the next login is created at all.
		made bool
	}{
		"the first Secret may not be created": {
			first: true, hold: func(w *world) { w.refuse(writesOf("create", "orders-db")) },
			repair: func(w *world) { w.fail = nil }, made: true,
		},
		"the Secret may not be updated": {
			hold:   func(w *world) { w.refuse(writesOf("update", "orders-db")) },
			repair: func(w *world) { w.fail = nil }, revision: 1, login: "orders_app_a", made: true,
		},
		"the Secret is immutable": {
			hold: func(w *world) {
				secret := w.secret("orders-db")
				w.edit(secret, func() { secret.Immutable = new(true) })
			},
			repair: func(w *world) {
				if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
					w.t.Fatal(err)
				}
			},
			revision: 1, login: "orders_app_a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			next, want := "orders_app_b", int64(2)
			if tc.first {
				tc.hold(w)
				next, want = "orders_app_a", 1
			}
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			if !tc.first {
				tc.hold(w)
				w.step(25 * time.Hour)
			}
			for range 8 {
				w.reconcile(object)
				w.step(30 * time.Second)
			}
			if events := w.events(); with(events, "Rotated") || with(events, "is published") {
				t.Errorf("reported before it is true: %q", events)
			}
			if s := object.Status; s.Revision != tc.revision || s.ActiveUsername != tc.login || (s.Binding != nil) != (tc.revision > 0) || s.Previous != nil {
				t.Errorf("the status has revision %d, login %q, binding %v, previous %v", s.Revision, s.ActiveUsername, s.Binding, s.Previous)
			}
			if _, made := w.database.Login(next); made != tc.made {
				t.Errorf("login %s created: %t, want %t", next, made, tc.made)
			}
			if !tc.first && !w.database.Accepts("orders_app_a", string(w.secret("orders-db").Data["password"])) {
				t.Error("the login in the Secret is refused")
			}
			tc.repair(w)
			w.step(11 * time.Minute)
			w.settle(object, 8)
			if events := w.events(); !with(events, "Normal Rotated", next) {
				t.Errorf("Events after the fix: %q", events)
			}
			if s := object.Status; s.Revision != want || s.ActiveUsername != next || s.Binding == nil {
				t.Errorf("the status has revision %d, login %q, binding %v after the fix", s.Revision, s.ActiveUsername, s.Binding)
			}
		})
	}
}

// T4: a Secret that was missing for a while and holds the same version again is not a rotation.
func TestASecretThatReappearsIsNotARotation(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.refuse(writesOf("create", "orders-db"))
	if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.reconcile(object)
		w.step(30 * time.Second)
	}
	if object.Status.Binding != nil || object.Status.ActiveUsername != "" {
		t.Errorf("the status names %v and %q, and there is no Secret", object.Status.Binding, object.Status.ActiveUsername)
	}
	w.fail = nil
	w.step(11 * time.Minute)
	w.settle(object, 5)
	if events := w.events(); with(events, "Rotated") || !with(events, "Recovered") {
		t.Errorf("Events: %q", events)
	}
	if object.Status.Revision != 1 {
		t.Errorf("revision %d", object.Status.Revision)
	}
}

// T4: Ready judges the data. A label that may not be written is reported, but no client is kept from using what is published.
func TestMetadataThatCannotBeWrittenLeavesReadyTrue(t *testing.T) {
	template := &v1alpha1.SecretTemplate{Labels: map[string]v1alpha1.TemplateLabelValue{"team": "orders"}}
	login, identity := aCredential(), aClientIdentity()
	for secret, tc := range map[string]struct {
		object client.Object
		change func()
	}{
		"orders-db": {login, func() { login.Spec.SecretTemplate = template }},
		"app-mtls":  {identity, func() { identity.Spec.SecretTemplate = template }},
	} {
		t.Run(secret, func(t *testing.T) {
			w := newWorld(t)
			ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), tc.object)
			w.refuse(writesOf("update", secret))
			w.edit(tc.object, tc.change)
			for range 4 {
				w.reconcile(tc.object)
				w.step(30 * time.Second)
			}
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(tc.object, v1alpha1.ConditionReconciling, "True/QuotaExceeded")
			if said := describeConditions(tc.object); !strings.Contains(said, "team-quota") {
				t.Errorf("no message names what refuses it:%s", said)
			}
			// Wrong data make it not Ready.
			w.fail = nil
			held := w.secret(secret)
			w.edit(held, func() {
				for key := range held.Data {
					held.Data[key] = []byte("another user's")
				}
			})
			w.refuse(writesOf("update", secret))
			w.step(11 * time.Minute)
			w.reconcile(tc.object)
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "False/QuotaExceeded")
			w.fail = nil
			w.step(11 * time.Minute)
			w.settle(tc.object, 5)
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(tc.object, v1alpha1.ConditionReconciling, "")
			if w.secret(secret).Labels["team"] != "orders" {
				t.Error("the label was not written")
			}
		})
	}
}
