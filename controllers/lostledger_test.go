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
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/secretstore"
)

// overlapping returns a world in which the first login is still accepted beside the second one.
func overlapping(t *testing.T) (*world, *v1alpha1.DatabaseCredential) {
	t.Helper()
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.request(object, v1alpha1.AnnotationRotate, "first")
	w.settle(object, 5)
	if object.Status.Revision != 2 || object.Status.Previous == nil {
		t.Fatalf("revision %d, previous %v: there is no overlap to test", object.Status.Revision, object.Status.Previous)
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

// open reports whether the server accepts the login.
func (w *world) open(login string) bool {
	now, ok := w.database.Login(login)
	return ok && now.CanLogin
}

// The ledger is deleted while two logins are accepted: no login is reported as refused that is not, the previous login is
// refused at the end of the overlap and not before, and a request that was carried out is not repeated.
func TestALedgerThatIsLostInAnOverlapLosesNoLogin(t *testing.T) {
	for name, restart := range map[string]bool{"and rekey continues": false, "and rekey dies too": true} {
		t.Run(name, func(t *testing.T) {
			w, object := overlapping(t)
			w.dropLedger(object)
			if restart {
				w.restart()
			}
			w.settle(object, 5)
			if reported := w.events(); with(reported, "Retired") {
				t.Errorf("reported as refused, although the login is accepted: %q", reported)
			}
			w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
			if object.Status.Previous == nil || object.Status.Previous.Username != "orders_app_a" {
				t.Errorf("the previous login is no longer known: %+v", object.Status.Previous)
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
			if reported := w.events(); !with(reported, "Normal Retired", "Login orders_app_a is now refused.") {
				t.Errorf("the end of the previous login was not reported: %q", reported)
			}
		})
	}
}

// A request outlives a lost ledger that recorded its outcome.
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
		"an end of the overlap, requested afterwards": {during: func(w *world, object *v1alpha1.DatabaseCredential) {
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

// If a process dies between retiring a login and reporting it, the next one reports it.
func TestTheNextProcessReportsARetirement(t *testing.T) {
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
	if reported := w.events(); !with(reported, "Normal Retired", "Login orders_app_a is now refused.") {
		t.Errorf("reported %q", reported)
	}
}

// A previous version that a user removed from the ledger is not a refused login.
func TestARetirementIsReportedOnlyIfTheLoginIsClosed(t *testing.T) {
	w, object := overlapping(t)
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
	w.edit(ledger, func() { delete(ledger.Data, "previous") })
	w.settle(object, 5)
	if reported := w.events(); with(reported, "Retired") || !w.open("orders_app_a") {
		t.Errorf("reported %q; the previous login is open: %t", reported, w.open("orders_app_a"))
	}
}

// unmarked is a server with unreadable markers.
type unmarked struct{ *databasetest.Fake }

// Open implements database.Engine.
func (u unmarked) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := u.Fake.Open(ctx, server, target)
	return unmarkedSession{session}, err
}

type unmarkedSession struct{ database.Session }

// Marker implements credential.MarkerReader.
func (unmarkedSession) Marker(context.Context, credential.Ref) (credential.Marker, error) {
	return credential.Marker{}, errors.New("permission denied for table pg_shdescription")
}

// A process closes the previous login and dies before it can report that. The next one cannot ask the server at first, and
// may die as well: Retired is reported once, by the first process that can ask.
func TestARetirementIsReportedOnceTheServerAnswers(t *testing.T) {
	for name, hinder := range map[string]func(w *world){
		"the marker cannot be read": func(w *world) { w.engines[v1alpha1.EnginePostgreSQL] = unmarked{w.database} },
		"there is no session":       func(w *world) { delete(w.engines, v1alpha1.EnginePostgreSQL) },
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
				t.Fatal("closing the previous login was reported before")
			}
			hinder(w)
			w.cut = true // A process that cannot ask does not know that the login is closed.
			for range 3 {
				w.restart()
				result := w.reconcile(object)
				if object.Status.Previous == nil || result.RequeueAfter > time.Minute {
					t.Errorf("status.previous is %v, and the server is asked again after %s", object.Status.Previous, result.RequeueAfter)
				}
				w.step(time.Minute)
			}
			w.cut = false
			w.engines[v1alpha1.EnginePostgreSQL] = w.database
			w.step(5 * time.Minute)
			w.settle(object, 5)
			reported := 0
			for _, event := range w.events() {
				if strings.HasPrefix(event, "Normal Retired") {
					reported++
				}
			}
			if reported != 1 || object.Status.Previous != nil {
				t.Errorf("Retired was reported %d times, and status.previous is %v", reported, object.Status.Previous)
			}
		})
	}
}
