// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// losses are the ways to lose every record of which login is the current one.
var losses = map[string]func(w *world, object *v1alpha1.DatabaseCredential){
	"the ledger, and the Secret holds a refused password": func(w *world, object *v1alpha1.DatabaseCredential) {
		w.dropLedger(object)
		secret := w.secret("orders-db")
		w.edit(secret, func() { secret.Data["password"] = []byte("edited by hand") })
	},
	"the ledger, and the Secret holds no login": func(w *world, object *v1alpha1.DatabaseCredential) {
		w.dropLedger(object)
		secret := w.secret("orders-db")
		w.edit(secret, func() { delete(secret.Data, "username") })
	},
	"the ledger and the Secret": func(w *world, object *v1alpha1.DatabaseCredential) {
		w.dropLedger(object)
		if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
			w.t.Fatal(err)
		}
	},
	"the ledger, the Secret, and the object": func(w *world, object *v1alpha1.DatabaseCredential) {
		w.dropLedger(object)
		if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
			w.t.Fatal(err)
		}
		w.edit(object, func() { object.Finalizers = nil })
		if err := w.client.Delete(w.ctx, object); err != nil {
			w.t.Fatal(err)
		}
		*object = *aCredential()
		object.Annotations = map[string]string{v1alpha1.AnnotationRotate: "first", v1alpha1.AnnotationRetirePrevious: "old"}
		w.create(object)
	},
}

// Whatever is lost together with the ledger, starting over spares the login that applications may still use, and closes it when
// a whole overlap has passed.
func TestAFreshStartKeepsTheOpenLogin(t *testing.T) {
	for how, lose := range losses {
		for _, tc := range []struct {
			name                 string
			arrange              func(w *world, object *v1alpha1.DatabaseCredential)
			wantLogin, wantSpare string
			wantRevision         int64
		}{
			{name: "a is open", wantLogin: "orders_app_b", wantSpare: "orders_app_a", wantRevision: 2,
				arrange: func(*world, *v1alpha1.DatabaseCredential) {}},
			{name: "b is open, and a closed", wantLogin: "orders_app_a", wantSpare: "orders_app_b", wantRevision: 3,
				arrange: func(w *world, object *v1alpha1.DatabaseCredential) {
					w.request(object, v1alpha1.AnnotationRotate, "first")
					w.settle(object, 5)
					w.step(2 * time.Hour)
					w.settle(object, 5)
				}},
			{name: "both are open, and a is the older one", wantLogin: "orders_app_a", wantSpare: "orders_app_b", wantRevision: 3,
				arrange: func(w *world, object *v1alpha1.DatabaseCredential) {
					w.request(object, v1alpha1.AnnotationRotate, "first")
					w.settle(object, 5)
				}},
		} {
			t.Run(how+": "+tc.name, func(t *testing.T) {
				w, object := newWorld(t), aCredential()
				ready(w, aPolicy(), anAdminSecret(), aServer(), object)
				tc.arrange(w, object)
				spared, _ := w.database.Login(tc.wantSpare)
				w.events()
				lose(w, object)
				w.restart()
				w.settle(object, 8)
				w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
				if object.Status.ActiveUsername != tc.wantLogin || object.Status.Revision != tc.wantRevision || !w.accepted("orders-db") {
					t.Errorf("revision %d is login %s, want %d and %s%s", object.Status.Revision, object.Status.ActiveUsername, tc.wantRevision, tc.wantLogin, describeConditions(object))
				}
				if object.Status.Previous == nil || object.Status.Previous.Username != tc.wantSpare {
					t.Errorf("previous login %+v, want %s", object.Status.Previous, tc.wantSpare)
				}
				reported := w.events()
				if !with(reported, "Normal Rotated", "Login "+tc.wantSpare+" stays accepted until") {
					t.Errorf("the login that stays accepted was not reported: %q", reported)
				}
				if crowded := strings.HasPrefix(tc.name, "both"); with(reported, tc.wantLogin+", the older one, got a new password") != crowded {
					t.Errorf("an open login got another password: want reported %t, was reported %q", crowded, reported)
				}
				w.step(59 * time.Minute)
				w.settle(object, 5)
				if now, _ := w.database.Login(tc.wantSpare); now.Password != spared.Password || !now.CanLogin {
					t.Errorf("inside the overlap login %s changed%s", tc.wantSpare, describeConditions(object))
				}
				w.step(2 * time.Minute)
				w.settle(object, 5)
				if w.open(tc.wantSpare) || !w.accepted("orders-db") {
					t.Errorf("after the overlap: login %s is open: %t%s", tc.wantSpare, w.open(tc.wantSpare), describeConditions(object))
				}
			})
		}
	}
}

// The process dies after each write and each change at the server while it starts over, or the server stops answering there: the
// outcome is the same, and nothing is created while a marker cannot be read.
func TestAFreshStartSurvivesEveryInterruption(t *testing.T) {
	start := func(t *testing.T) (*world, *v1alpha1.DatabaseCredential) {
		t.Helper()
		w, object := overlapping(t)
		w.step(2 * time.Hour)
		w.settle(object, 5) // b is open, and a closed.
		losses["the ledger and the Secret"](w, object)
		w.restart()
		w.events()
		return w, object
	}
	finish := func(t *testing.T, w *world, object *v1alpha1.DatabaseCredential) {
		t.Helper()
		for range 8 {
			w.step(time.Minute)
			w.settle(object, 5)
		}
		if !w.accepted("orders-db") || object.Status.ActiveUsername != "orders_app_a" || !w.open("orders_app_b") {
			t.Errorf("login %s is published, and b is open: %t%s", object.Status.ActiveUsername, w.open("orders_app_b"), describeConditions(object))
		}
		w.step(2 * time.Hour)
		w.settle(object, 5)
		if w.open("orders_app_b") || !w.accepted("orders-db") {
			t.Errorf("after the overlap b is open: %t%s", w.open("orders_app_b"), describeConditions(object))
		}
	}
	tried := 0
	for nth, more := 0, true; more; nth++ {
		w, object := start(t)
		w.cut = true
		count := 0
		w.fail = func(write) error {
			if count++; count > nth {
				return errors.New("the process is dead")
			}
			return nil
		}
		_, _ = w.reconcilerOf(object).Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		w.fail, more = nil, count > nth
		w.restart()
		finish(t, w, object)
		tried++
	}
	if tried < 5 {
		t.Errorf("only %d interruptions", tried)
	}
	for _, method := range []string{"Marker", "Preflight", "Stage", "Verify"} {
		w, object := start(t)
		before := w.logins()
		w.database.Before(method, func() { w.database.SetDown(true) })
		w.reconcile(object)
		if method == "Marker" {
			if after := w.logins(); !cmp.Equal(before, after) {
				t.Errorf("logins changed while no marker could be read: %s", cmp.Diff(before, after))
			}
			if _, ok := w.data()[secretstore.LedgerName(kindDatabaseCredential, object.Name)]; ok {
				t.Error("a version was recorded while no marker could be read")
			}
		}
		w.database.SetDown(false)
		w.restart()
		finish(t, w, object)
	}
}

// A server that refuses the candidate gets others with other numbers: the login that is spared stays spared.
func TestAFreshStartKeepsTheSameLoginIfItsCandidateIsDiscarded(t *testing.T) {
	w, object := overlapping(t)
	w.step(2 * time.Hour)
	w.settle(object, 5)
	losses["the ledger and the Secret"](w, object)
	w.restart()
	w.database.Before("Verify", func() { w.database.SetDown(true) })
	w.reconcile(object)
	w.database.SetDown(false)
	w.edit(object, func() { object.Spec.Password.Length = 41 })
	w.step(time.Hour)
	w.settle(object, 8)
	if object.Status.ActiveUsername != "orders_app_a" || object.Status.Previous == nil || object.Status.Previous.Username != "orders_app_b" || !w.open("orders_app_b") {
		t.Errorf("login %s, previous %+v%s", object.Status.ActiveUsername, object.Status.Previous, describeConditions(object))
	}
}

// The same with PostgreSQL: the password of the spared login keeps working.
func TestAFreshStartKeepsTheOpenLoginOnPostgreSQL(t *testing.T) {
	for _, version := range versions {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			w := newPGWorld(t, servers.Of(t, version))
			w.create(w.object, w.credential)
			w.settle(w.object, 3)
			w.settle(w.credential, 5)
			spared := w.secret("orders-db")
			w.dropLedger(w.credential)
			if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
				t.Fatal(err)
			}
			w.restart()
			w.settle(w.credential, 8)
			w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
			if w.credential.Status.ActiveUsername != w.base+"_app_b" || w.credential.Status.Revision != 2 || !w.accepted(w.secret("orders-db")) || !w.accepted(spared) {
				t.Errorf("revision %d is login %s; the earlier login is accepted: %t%s", w.credential.Status.Revision, w.credential.Status.ActiveUsername,
					w.accepted(spared), describeConditions(w.credential))
			}
			w.step(2 * time.Hour)
			w.settle(w.credential, 5)
			if w.accepted(spared) || !w.accepted(w.secret("orders-db")) {
				t.Errorf("after the overlap the earlier login is accepted: %t%s", w.accepted(spared), describeConditions(w.credential))
			}
		})
	}
}
