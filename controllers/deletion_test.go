// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/size"
)

// R23: whatever is deleted first, and whether an Event can still report it or not, log and metric report logins that stay.
func TestLoginsThatStayAreReported(t *testing.T) {
	gone := map[string]func(*world, *v1alpha1.DatabaseCredential){
		"the ledger": func(w *world, o *v1alpha1.DatabaseCredential) {
			w.remove(w.secret(secretstore.LedgerName(kindDatabaseCredential, o.Name)))
		},
		"the Secret":         func(w *world, _ *v1alpha1.DatabaseCredential) { w.remove(w.secret("orders-db")) },
		"the admin Secret":   func(w *world, _ *v1alpha1.DatabaseCredential) { w.remove(w.secret("orders-admin")) },
		"the DatabaseServer": func(w *world, _ *v1alpha1.DatabaseCredential) { w.remove(aServer()) },
		"the status": func(w *world, o *v1alpha1.DatabaseCredential) {
			w.edit(o, func() {})
			o.Status = v1alpha1.DatabaseCredentialStatus{}
			w.must(w.client.Status().Update(w.ctx, o))
		},
		"the database's answers": func(w *world, _ *v1alpha1.DatabaseCredential) { w.database.SetDown(true) },
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range gone {
			if !yield(name) {
				return
			}
		}
	})
	all := make([]uint, 1<<len(names))
	for i := range all {
		all[i] = uint(i)
	}
	// Every pair, and of the larger sets at least one of each number.
	class := func(set uint) uint {
		if count := bits.OnesCount(set); count > 2 {
			return 1<<len(names) + uint(count)
		}
		return set
	}
	for _, set := range size.Sample(size.RandomFrom(t, 1), all, 26, class) {
		var what []string
		for i, name := range names {
			if set&(1<<i) != 0 {
				what = append(what, name)
			}
		}
		t.Run(strings.Join(append(what, "gone"), ", "), func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			w.events()
			for _, name := range what {
				gone[name](w, object)
			}
			w.must(w.client.Delete(w.ctx, object))
			for begun := w.clock.Now(); w.clock.Since(begun) < 16*time.Minute; w.step(2 * time.Minute) {
				w.reconcile(object)
			}
			if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
				t.Fatalf("the object still exists: %v", err)
			}
			login, _ := w.database.Login("orders_app_a")
			stays := login.CanLogin
			if reported := with(w.events(), "Warning CleanupIncomplete", "orders_app_a", "orders_app_b", "runbooks/CleanupIncomplete.md"); reported != stays {
				t.Errorf("a login stays: %t; reported by an Event: %t", stays, reported)
			}
			if counted := w.counted("rekey_errors_total", nil) > 0; counted != stays {
				t.Errorf("a login stays: %t; counted: %t", stays, counted)
			}
		})
	}
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// remove deletes an object as a user does.
func (w *world) remove(o client.Object) {
	w.t.Helper()
	if o.GetNamespace() == "" {
		o.SetNamespace(w.namespace)
	}
	w.must(w.client.Delete(w.ctx, o))
}

// A deletion that is refused is reported, while what is published is unchanged.
func TestABlockedDeletionNamesWhatBlocksIt(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.must(w.client.Delete(w.ctx, object))
	w.fail = func(this write) error {
		if this.verb == "delete" && this.kind == "Secret" {
			return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 409, Reason: metav1.StatusReasonConflict,
				Message: `admission webhook "keep.example.com" denied the request: Secrets stay`}}
		}
		return nil
	}
	w.reconcile(object)
	w.wantCondition(object, v1alpha1.ConditionReconciling, "True/"+string(fault.AdmissionDenied))
	if !strings.Contains(describeConditions(object), `deleting Secret `+w.namespace+`/orders-db: refused by admission webhook "keep.example.com"`) {
		t.Errorf("conditions:%s", describeConditions(object))
	}
	for begun := w.clock.Now(); w.clock.Since(begun) < 15*time.Minute; w.step(30 * time.Second) {
		w.reconcile(object)
	}
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
		t.Fatalf("the object still exists: %v%s", err, describeConditions(object))
	}
	if events := w.events(); !with(events, "Warning CleanupIncomplete", "Secret orders-db and ledger Secret rekey-databasecredential-orders", "kubectl -n "+w.namespace+" delete secret") {
		t.Errorf("Events: %q", events)
	}
}

// Logins with a marker that names the deleted object are dropped although a copy replaced its ledger; those of the copy's
// owner stay, and no message advises dropping them.
func TestACopiedLedgerKeepsNoLoginOfTheDeletedObject(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(w *world, object *v1alpha1.DatabaseCredential)
		stays     bool
	}{
		"the server answers":    {meanwhile: func(*world, *v1alpha1.DatabaseCredential) {}},
		"it answers later":      {meanwhile: func(w *world, _ *v1alpha1.DatabaseCredential) { w.database.SetDown(true) }},
		"it never answers":      {meanwhile: func(w *world, _ *v1alpha1.DatabaseCredential) { w.database.SetDown(true) }, stays: true},
		"the server is deleted": {meanwhile: func(w *world, _ *v1alpha1.DatabaseCredential) { w.remove(aServer()) }, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, first := newWorld(t), aCredential()
			ready(w, aPolicy(), anAdminSecret(), aServer(), first)
			other, object := w.beside(t), aCredential()
			object.Spec.Username, object.Spec.DeletionPolicy = "shop_app", v1alpha1.DeletionDelete
			ready(other, aPolicy(), anAdminSecret(), aServer(), object)
			w.copySecrets(other, ledgers)
			other.restart()
			other.events()
			tc.meanwhile(other, object)
			other.must(other.client.Delete(other.ctx, object))
			for begun := other.clock.Now(); other.clock.Since(begun) < 16*time.Minute; other.step(2 * time.Minute) {
				other.reconcile(object)
				if name == "it answers later" && other.clock.Since(begun) > 5*time.Minute {
					other.database.SetDown(false)
				}
			}
			if err := other.client.Get(other.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
				t.Fatalf("the object still exists: %v%s", err, describeConditions(object))
			}
			if other.open("shop_app_a") != tc.stays || !w.open("orders_app_a") {
				t.Errorf("its own login is open: %t, that of the other owner: %t", other.open("shop_app_a"), w.open("orders_app_a"))
			}
			events := other.events()
			if with(events, "Warning CleanupIncomplete", "shop_app_a", "if their markers name this object", "drop only those whose marker names it") != tc.stays || !tc.stays && with(events, "CleanupIncomplete") {
				t.Errorf("reported %q, and a login stays: %t", events, tc.stays)
			}
		})
	}
}
