// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/secretstore"
)

// logins returns the server's current logins of the credential of objects_test.go.
func (w *world) logins() map[string]databasetest.FakeLogin {
	out := map[string]databasetest.FakeLogin{}
	for _, name := range []string{"orders_app_a", "orders_app_b"} {
		if login, ok := w.database.Login(name); ok {
			out[name] = login
		}
	}
	return out
}

// restore restores the server to its earlier state.
func (w *world) restore(logins map[string]databasetest.FakeLogin) {
	for _, name := range []string{"orders_app_a", "orders_app_b"} {
		w.database.Drop(name)
		if login, ok := logins[name]; ok {
			w.database.Put(name, login)
		}
	}
}

// accepted reports whether the server accepts the Secret's contents.
func (w *world) accepted(name string) bool {
	w.t.Helper()
	secret := w.secret(name)
	return w.database.Accepts(string(secret.Data["username"]), string(secret.Data["password"]))
}

// R19: the database is restored from a backup of any age. The published login works again, unchanged.
func TestADatabaseFromABackupGetsThePublishedLoginBack(t *testing.T) {
	for name, tc := range map[string]struct{ rotations, backupAfter int }{
		"from before everything":        {rotations: 2, backupAfter: 0},
		"from before the last rotation": {rotations: 2, backupAfter: 1},
		"from two rotations ago":        {rotations: 3, backupAfter: 1},
		"from a moment ago":             {rotations: 2, backupAfter: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			backup := w.logins()
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			for n := 1; n <= tc.rotations; n++ {
				if n == tc.backupAfter {
					backup = w.logins()
				}
				if n < tc.rotations {
					w.step(25 * time.Hour)
					w.settle(object, 5)
					w.step(2 * time.Hour)
					w.settle(object, 5)
				}
			}
			published := w.secret("orders-db")
			w.restore(backup)
			w.restart() // The operator may well have had the same power cut.
			for range 12 {
				w.step(time.Minute)
				w.reconcile(object)
			}
			w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
			if !w.accepted("orders-db") {
				t.Errorf("the published login is refused:%s", describeConditions(object))
			}
			if now := w.secret("orders-db"); string(now.Data["password"]) != string(published.Data["password"]) {
				t.Error("the Secret was changed, and clients that have read it were locked out")
			}
			// And it keeps rotating.
			revision := object.Status.Revision
			w.step(25 * time.Hour)
			w.settle(object, 5)
			if object.Status.Revision <= revision || !w.accepted("orders-db") {
				t.Errorf("revision %d after the next rotation was due:%s", object.Status.Revision, describeConditions(object))
			}
		})
	}
}

// request sets an annotation on an object, as the documented command does.
func (w *world) request(o client.Object, annotation, value string) {
	w.t.Helper()
	w.edit(o, func() {
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[annotation] = value
		o.SetAnnotations(annotations)
	})
}

// The ledger is deleted manually, in each state of a rotation, and the process dies too. It is rebuilt from the Secret; nothing
// that is published changes, numbers continue, and no unknown login of the object stays accepted.
func TestALedgerIsRebuiltInEveryStateOfARotation(t *testing.T) {
	ask := func(w *world, object *v1alpha1.DatabaseCredential, annotation, value string) {
		w.request(object, annotation, value)
		w.settle(object, 5)
	}
	// The clock does not move: the write time of a Secret comes from the API server.
	for name, arrange := range map[string]func(w *world, object *v1alpha1.DatabaseCredential){
		"quiet": func(*world, *v1alpha1.DatabaseCredential) {},
		"in the overlap": func(w *world, object *v1alpha1.DatabaseCredential) {
			ask(w, object, v1alpha1.AnnotationRotate, "1")
		},
		"after the second rotation": func(w *world, object *v1alpha1.DatabaseCredential) {
			for _, n := range []string{"1", "2"} {
				ask(w, object, v1alpha1.AnnotationRotate, n)
				ask(w, object, v1alpha1.AnnotationRetirePrevious, n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			arrange(w, object)
			published, revision := w.secret("orders-db"), object.Status.Revision
			ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
			if err := w.client.Delete(w.ctx, ledger); err != nil {
				t.Fatal(err)
			}
			w.restart()
			w.settle(object, 5)
			w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
			now := w.secret("orders-db")
			if string(now.Data["password"]) != string(published.Data["password"]) || object.Status.Revision != revision {
				t.Errorf("revision %d, was %d, and the login changed", object.Status.Revision, revision)
			}
			w.secret(ledger.Name)
			for range 2 {
				w.step(25 * time.Hour)
				w.settle(object, 8)
				w.step(2 * time.Hour)
				w.settle(object, 8)
				if !w.accepted("orders-db") {
					t.Fatalf("the published login is refused:%s", describeConditions(object))
				}
			}
			if object.Status.Revision < revision+2 {
				t.Errorf("revision %d two days later, was %d:%s", object.Status.Revision, revision, describeConditions(object))
			}
			open := 0
			for _, login := range w.logins() {
				if login.CanLogin {
					open++
				}
			}
			if open != 1 {
				t.Errorf("%d logins are open after the overlap, want one: %v", open, len(w.logins()))
			}
		})
	}
}

// R23: with policy Delete, the markers in the database show what is ours, even without the ledger; everything else stays.
func TestWithoutALedgerTheMarkersDecideWhatIsDropped(t *testing.T) {
	ledger := secretstore.LedgerName(kindDatabaseCredential, "orders")
	for name, lost := range map[string][]string{"the ledger is lost": {ledger}, "the ledger and the Secret are lost": {ledger, "orders-db"}} {
		t.Run(name, func(t *testing.T) { marksSayWhatIsDropped(t, lost) })
	}
}

func marksSayWhatIsDropped(t *testing.T, lost []string) {
	t.Helper()
	w := newWorld(t)
	object := aCredential()
	object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.step(25 * time.Hour)
	w.settle(object, 5)
	if len(w.logins()) != 2 {
		t.Fatalf("%d logins, want two", len(w.logins()))
	}
	theirs, _ := w.database.Login("orders_app_a")
	theirs.Owner = "another-cluster/web/orders"
	w.database.Put("orders_app_a", theirs)
	for _, name := range lost {
		if err := w.client.Delete(w.ctx, w.secret(name)); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	if err := w.client.Delete(w.ctx, object); err != nil {
		t.Fatal(err)
	}
	w.reconcile(object)
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
		t.Errorf("the object still exists (error %v)", err)
	}
	if _, ok := w.database.Login("orders_app_b"); ok {
		t.Error("our login was left behind")
	}
	if login, ok := w.database.Login("orders_app_a"); !ok || !login.CanLogin {
		t.Error("the login with another owner's marker was touched")
	}
}

// The same while the server does not answer for a minute: the deletion also waits for logins that the ledger does not list.
func TestWithoutALedgerADeletionWaitsForTheServer(t *testing.T) {
	for _, lost := range [][]string{{secretstore.LedgerName(kindDatabaseCredential, "orders")}, {secretstore.LedgerName(kindDatabaseCredential, "orders"), "orders-db"}} {
		w := newWorld(t)
		object := aCredential()
		object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
		ready(w, aPolicy(), anAdminSecret(), aServer(), object)
		for _, name := range lost {
			if err := w.client.Delete(w.ctx, w.secret(name)); err != nil {
				t.Fatal(err)
			}
		}
		w.restart()
		w.database.SetDown(true)
		if err := w.client.Delete(w.ctx, object); err != nil {
			t.Fatal(err)
		}
		w.reconcile(object)
		w.step(time.Minute)
		w.database.SetDown(false)
		for range 3 {
			w.step(time.Minute)
			w.reconcile(object)
		}
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
			t.Errorf("without %v the object still exists (error %v)", lost, err)
		}
		if logins := w.logins(); len(logins) != 0 {
			t.Errorf("without %v %d logins were left behind, although the server answered after a minute", lost, len(logins))
		}
		if events := w.events(); with(events, "CleanupIncomplete") {
			t.Errorf("without %v something is reported as left behind: %q", lost, events)
		}
	}
}

// R13: an object that is deleted and applied again (a prune, a restore) adopts what is published.
func TestAReappliedObjectKeepsWhatIsPublished(t *testing.T) {
	w := newWorld(t)
	identity, object := aClientIdentity(), aCredential()
	ready(w, anAuthority(), identity, aPolicy(), anAdminSecret(), aServer(), object)
	certificate, login, stages := w.secret("app-mtls"), w.secret("orders-db"), w.database.Calls("Stage")
	for _, o := range []client.Object{identity, object} {
		if err := w.client.Delete(w.ctx, o); err != nil {
			t.Fatal(err)
		}
		w.reconcile(o)
	}
	w.restart()
	w.step(time.Hour)
	identity, object = aClientIdentity(), aCredential()
	w.create(identity, object)
	w.settle(identity, 3)
	w.settle(object, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	if string(w.secret("app-mtls").Data["tls.key"]) != string(certificate.Data["tls.key"]) {
		t.Error("the certificate was reissued")
	}
	if string(w.secret("orders-db").Data["password"]) != string(login.Data["password"]) || w.database.Calls("Stage") != stages {
		t.Error("the login was created again")
	}
}
