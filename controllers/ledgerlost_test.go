// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/backend/backendtest"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// overlapping is a world in which the first login is still accepted beside the second one.
func overlapping(t *testing.T) (*world, *v1alpha1.DatabaseCredential) {
	t.Helper()
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.request(object, v1alpha1.AnnotationRotate, "first")
	w.settle(object, 5)
	if object.Status.Revision != 2 || object.Status.Previous == nil {
		t.Fatalf("revision %d, previous %v: no overlap to try anything in", object.Status.Revision, object.Status.Previous)
	}
	w.events()
	return w, object
}

func (w *world) dropLedger(object *v1alpha1.DatabaseCredential) {
	w.t.Helper()
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
	if err := w.client.Delete(w.ctx, ledger); err != nil {
		w.t.Fatal(err)
	}
}

// open tells whether the server lets the login in.
func (w *world) open(login string) bool {
	now, ok := w.database.Login(login)
	return ok && now.CanLogin
}

// The ledger is deleted while two logins are accepted: nothing is said to be refused that is not, the previous login is
// refused at the end of the overlap and not before, and a request that was carried out is not carried out again.
func TestALedgerThatIsLostInAnOverlapLosesNoLogin(t *testing.T) {
	for name, restart := range map[string]bool{"and rekey goes on": false, "and rekey dies too": true} {
		t.Run(name, func(t *testing.T) {
			w, object := overlapping(t)
			w.dropLedger(object)
			if restart {
				w.restart()
			}
			w.settle(object, 5)
			if told := w.events(); with(told, "Retired") {
				t.Errorf("told that a login is refused which is accepted: %q", told)
			}
			w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
			if object.Status.Previous == nil || object.Status.Previous.Username != "orders_app_a" {
				t.Errorf("the previous login is not known any more: %+v", object.Status.Previous)
			}
			w.step(59 * time.Minute)
			w.settle(object, 5)
			if object.Status.Revision != 2 || !w.open("orders_app_a") || !w.accepted("orders-db") {
				t.Errorf("inside the overlap: revision %d, previous login open: %t%s", object.Status.Revision, w.open("orders_app_a"), describeConditions(object))
			}
			w.step(2 * time.Minute)
			w.settle(object, 5)
			if w.open("orders_app_a") || !w.accepted("orders-db") {
				t.Errorf("after the overlap: previous login open: %t%s", w.open("orders_app_a"), describeConditions(object))
			}
			if told := w.events(); !with(told, "Normal Retired", "Login orders_app_a is refused now.") {
				t.Errorf("the end of the previous login was not told: %q", told)
			}
		})
	}
}

// A request outlives the ledger in which its fate was written down.
func TestRequestsOutliveALostLedger(t *testing.T) {
	for name, tc := range map[string]struct {
		during       func(w *world, object *v1alpha1.DatabaseCredential)
		wantRevision int64
		wantOpen     bool
	}{
		"carried out before": {during: func(*world, *v1alpha1.DatabaseCredential) {}, wantRevision: 2, wantOpen: true},
		"a rotation that still waits": {during: func(w *world, object *v1alpha1.DatabaseCredential) {
			w.request(object, v1alpha1.AnnotationRotate, "second")
		}, wantRevision: 2, wantOpen: true},
		"an end of the overlap, asked for afterwards": {during: func(w *world, object *v1alpha1.DatabaseCredential) {
			w.settle(object, 5)
			w.request(object, v1alpha1.AnnotationRetirePrevious, "now")
		}, wantRevision: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w, object := overlapping(t)
			w.dropLedger(object)
			w.restart()
			tc.during(w, object)
			w.settle(object, 5)
			if object.Status.Revision != tc.wantRevision || w.open("orders_app_a") != tc.wantOpen {
				t.Errorf("revision %d, previous login open: %t, want %d and %t%s",
					object.Status.Revision, w.open("orders_app_a"), tc.wantRevision, tc.wantOpen, describeConditions(object))
			}
			w.step(2 * time.Hour)
			w.settle(object, 8)
			want := tc.wantRevision
			if name == "a rotation that still waits" {
				want++
			}
			if object.Status.Revision != want || !w.accepted("orders-db") {
				t.Errorf("after the overlap: revision %d, want %d%s", object.Status.Revision, want, describeConditions(object))
			}
		})
	}
}

// A process that dies between retiring a login and saying so leaves the news to the next one.
func TestARetirementIsToldByTheNextProcess(t *testing.T) {
	w, object := overlapping(t)
	w.step(2 * time.Hour)
	w.fail = func(this write) error {
		if this.verb == "update status" {
			return errors.New("the process died")
		}
		return nil
	}
	w.reconcile(object)
	if w.open("orders_app_a") {
		t.Fatalf("the previous login is still open:%s", describeConditions(object))
	}
	w.fail = nil
	w.restart()
	w.events()
	w.settle(object, 5)
	if told := w.events(); !with(told, "Normal Retired", "Login orders_app_a is refused now.") {
		t.Errorf("told %q", told)
	}
}

// A previous version that somebody took out of the ledger is no login that is refused.
func TestARetirementIsToldOnlyWhereTheLoginIsClosed(t *testing.T) {
	w, object := overlapping(t)
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
	w.edit(ledger, func() { delete(ledger.Data, "previous") })
	w.settle(object, 5)
	if told := w.events(); with(told, "Retired") || !w.open("orders_app_a") {
		t.Errorf("told %q; the previous login is open: %t", told, w.open("orders_app_a"))
	}
}

// unmarked is a server whose marks cannot be read.
type unmarked struct{ *backendtest.Fake }

// Open implements backend.Backend.
func (u unmarked) Open(ctx context.Context, target backend.Target) (backend.Session, error) {
	session, err := u.Fake.Open(ctx, target)
	return unmarkedSession{session}, err
}

type unmarkedSession struct{ backend.Session }

// Marker implements credential.Marked.
func (unmarkedSession) Marker(context.Context, credential.Ref) (credential.Marker, error) {
	return credential.Marker{}, errors.New("permission denied for table pg_shdescription")
}

// A process closes the previous login and dies before it can say so. The next one cannot ask the server at first, and may die
// as well: Retired is told once, by whoever can ask.
func TestARetirementIsToldLaterWhereTheServerCannotBeAskedAtFirst(t *testing.T) {
	for name, hinder := range map[string]func(w *world){
		"the mark cannot be read": func(w *world) { w.backends[v1alpha1.EnginePostgreSQL] = unmarked{w.database} },
		"there is no session":     func(w *world) { delete(w.backends, v1alpha1.EnginePostgreSQL) },
	} {
		t.Run(name, func(t *testing.T) {
			w, object := overlapping(t)
			w.fail = func(of write) error {
				if of.verb == "update status" && of.kind == "DatabaseCredential" && !w.open("orders_app_a") {
					return errors.New("the process is dead")
				}
				return nil
			}
			w.step(2 * time.Hour)
			for range 3 {
				w.reconcile(object)
			}
			w.fail = nil
			if w.open("orders_app_a") || with(w.events(), "Retired") {
				t.Fatal("the previous login was not closed in silence")
			}
			hinder(w)
			w.cut = true // whoever cannot ask does not know that the login is closed
			for range 3 {
				w.restart()
				result := w.reconcile(object)
				if object.Status.Previous == nil || result.RequeueAfter > time.Minute {
					t.Errorf("status.previous is %v, and the server is asked again after %s", object.Status.Previous, result.RequeueAfter)
				}
				w.step(time.Minute)
			}
			w.cut = false
			w.backends[v1alpha1.EnginePostgreSQL] = w.database
			w.step(5 * time.Minute)
			w.settle(object, 5)
			told := 0
			for _, event := range w.events() {
				if strings.HasPrefix(event, "Normal Retired") {
					told++
				}
			}
			if told != 1 || object.Status.Previous != nil {
				t.Errorf("Retired was told %d times, and status.previous is %v", told, object.Status.Previous)
			}
		})
	}
}
