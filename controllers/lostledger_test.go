// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
			if events := w.events(); with(events, "Retired") {
				t.Errorf("reported as refused, although the login is accepted: %q", events)
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
			if events := w.events(); !with(events, "Normal Retired", "Login orders_app_a is now refused.") {
				t.Errorf("the end of the previous login was not reported: %q", events)
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
	if events := w.events(); !with(events, "Normal Retired", "Login orders_app_a is now refused.") {
		t.Errorf("reported %q", events)
	}
}

// A previous version that a user removed from the ledger is not a refused login.
func TestARetirementIsReportedOnlyIfTheLoginIsClosed(t *testing.T) {
	w, object := overlapping(t)
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
	w.edit(ledger, func() { delete(ledger.Data, "previous") })
	w.settle(object, 5)
	if events := w.events(); with(events, "Retired") || !w.open("orders_app_a") {
		t.Errorf("reported %q; the previous login is open: %t", events, w.open("orders_app_a"))
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
			reports := 0
			for _, event := range w.events() {
				if strings.HasPrefix(event, "Normal Retired") {
					reports++
				}
			}
			if reports != 1 || object.Status.Previous != nil {
				t.Errorf("Retired was reported %d times, and status.previous is %v", reports, object.Status.Previous)
			}
		})
	}
}

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
				events := w.events()
				if !with(events, "Normal Rotated", "Login "+tc.wantSpare+" stays accepted until") {
					t.Errorf("the login that stays accepted was not reported: %q", events)
				}
				if crowded := strings.HasPrefix(tc.name, "both"); with(events, tc.wantLogin+", the older one, got a new password") != crowded {
					t.Errorf("an open login got another password: want reported %t, was reported %q", crowded, events)
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
