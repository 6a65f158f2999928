// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// obstacles are what a request of a deletion may be answered with, for as long as it is asked.
var obstacles = map[string]error{
	"nothing at all":           context.DeadlineExceeded,
	"transient":                fault.Transient(fault.APIServerFailed, errors.New("away")),
	"pending":                  fault.Pending(time.Hour, errors.New("not yet")),
	"blocked":                  fault.Blocked(fault.AdmissionDenied, errors.New("denied")),
	"permanent":                fault.Permanent(fault.SecretConflict, errors.New("of another owner")),
	"forbidden":                refusal.Fault("asking", apierrors.NewForbidden(corev1.Resource("secrets"), "orders-db", errors.New("no right")), nil),
	"a conflict":               apierrors.NewConflict(corev1.Resource("secrets"), "orders-db", errors.New("written since")),
	"a conflict of this pass":  errChanged,
	"an internal server error": apierrors.NewInternalError(errors.New("etcd")),
}

// places are where a deletion may meet them, with what stays when they never go away.
var places = map[string]struct {
	meet  func(*drive, error)
	stays func(Remains) bool
}{
	"reading Secret and ledger": {func(d *drive, err error) { d.store.loadErr, d.store.withdrawErr = err, err }, func(r Remains) bool { return r.Remote != nil && r.Kept != nil }},
	"withdrawing them":          {func(d *drive, err error) { d.store.withdrawErr = err }, func(r Remains) bool { return r.Remote == nil && r.Kept != nil }},
	"opening the server":        {func(d *drive, err error) { d.subject.Source, d.subject.SourceErr = nil, err }, func(r Remains) bool { return r.Remote != nil && r.Kept == nil }},
	"dropping the logins":       {func(d *drive, err error) { d.source.removeErr = err }, func(r Remains) bool { return r.Remote != nil && r.Kept == nil }},
	"all of it": {func(d *drive, err error) {
		d.store.withdrawErr, d.source.removeErr = err, err
	}, func(r Remains) bool { return r.Remote != nil && r.Kept != nil }},
}

func TestADeletionEndsWhateverNeverAnswers(t *testing.T) {
	t.Parallel()
	for place, where := range places {
		for name, obstacle := range obstacles {
			t.Run(place+"/"+name, func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.subject.Deleting, d.subject.Delete = true, true
				var left []Remains
				d.subject.LeaveBehind = func(_ context.Context, r Remains) error { left = append(left, r); return nil }
				where.meet(d, obstacle)
				passes := d.untilWithdrawn(t)
				if waited := d.clock.Since(driveStart); waited < withdrawPatience || waited > 2*withdrawPatience+2*withdrawRetry {
					t.Errorf("it was released after %s", waited)
				}
				if passes > 1500 {
					t.Errorf("%d passes", passes)
				}
				if len(left) != 1 || !where.stays(left[0]) {
					t.Errorf("left behind, as it was told: %+v", left)
				}
			})
		}
	}
}

// untilWithdrawn makes passes when the object asks for them.
func (d *drive) untilWithdrawn(t *testing.T) (passes int) {
	t.Helper()
	for passes = 1; ; passes++ {
		out := d.pass()
		if out.Withdrawn {
			return passes
		}
		wait := out.NextAttempt.Sub(d.clock.Now())
		if wait <= 0 || wait > withdrawRetry || d.clock.Since(driveStart) > 24*time.Hour {
			t.Fatalf("after %s it waits for %s more: %v", d.clock.Since(driveStart), wait, out.Err)
		}
		d.wait(wait)
	}
}

func TestWhereTheNamespaceTookTheRightsAwayADeletionEndsAtOnce(t *testing.T) {
	t.Parallel()
	for place, where := range places {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ends: %t", place, ends), func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.subject.Deleting, d.subject.Delete = true, true
				d.subject.NamespaceEnds = func(context.Context) bool { return ends }
				where.meet(d, obstacles["forbidden"])
				out := d.pass()
				if out.Withdrawn != ends {
					t.Errorf("released at once: %t; %v", out.Withdrawn, out.Err)
				}
				// Secret and ledger go with the namespace; logins do not.
				if left := where.stays(Remains{Remote: errors.New("x")}) || where.stays(Remains{Remote: errors.New("x"), Kept: errors.New("x")}); ends && left != (out.LeftBehind != "") {
					t.Errorf("left behind: %q", out.LeftBehind)
				}
			})
		}
	}
}

// A deletion counts by the clock that stamped it, the API server's: ours may be wrong in either direction.
func TestAWrongClockNeitherEndsNorHoldsUpADeletion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		off   time.Duration // of the API server's clock from ours
		known bool
	}{
		"ours is right":                 {0, true},
		"ours is ahead by ten minutes":  {-10 * time.Minute, true},
		"ours is ahead by a year":       {-365 * 24 * time.Hour, true},
		"ours is behind by ten minutes": {10 * time.Minute, true},
		"ours is behind by a year":      {365 * 24 * time.Hour, true},
		"nobody has told":               {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.Skew = func() (time.Duration, bool) { return tc.off, tc.known }
			d.subject.Deleting, d.subject.Delete = true, true
			d.subject.WithdrawDeadline = d.clock.Now().Add(tc.off).Add(withdrawPatience)
			d.source.removeErr = errors.New("away")
			begun := d.clock.Now()
			d.untilWithdrawn(t)
			if waited := d.clock.Since(begun); waited < withdrawPatience-time.Minute || waited > withdrawPatience+2*withdrawRetry {
				t.Errorf("it was released after %s", waited)
			}
		})
	}
}

// The finalizer may be refused for long. Nothing is cleaned or told twice meanwhile, and as soon as it is admitted the object goes.
func TestARefusedFinalizerIsRemovedAsSoonAsThatIsAdmitted(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Deleting, d.subject.Delete = true, true
	told, refused := 0, true
	d.subject.LeaveBehind = func(context.Context, Remains) error { told++; return nil }
	d.subject.Release = func(context.Context) error {
		if refused {
			return obstacles["blocked"]
		}
		return nil
	}
	noSource(fault.ServerNotFound)(d)
	passes := 0
	for d.clock.Since(driveStart) < 24*time.Hour {
		out := d.pass()
		if out.Withdrawn || fault.ReasonOf(out.Err, "") != fault.AdmissionDenied {
			t.Fatalf("withdrawn %t, %v", out.Withdrawn, out.Err)
		}
		if passes++; out.NextAttempt.Sub(d.clock.Now()) > withdrawRetry {
			t.Fatalf("it is tried again only after %s", out.NextAttempt.Sub(d.clock.Now()))
		}
		d.wait(out.NextAttempt.Sub(d.clock.Now()))
	}
	if told != 1 || d.store.withdrawals != 1 || passes > 24*60+20 {
		t.Errorf("told %d times, withdrawn %d times, in %d passes", told, d.store.withdrawals, passes)
	}
	refused = false
	if out := d.pass(); !out.Withdrawn || told != 1 {
		t.Errorf("withdrawn %t, told %d times: %v", out.Withdrawn, told, out.Err)
	}
}

// R23: whatever goes first, and whether it can still be told by an Event or not, logins that stay are told in log and metric.
func TestLoginsThatStayAreTold(t *testing.T) {
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
	for set := range 1 << len(names) {
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
				t.Fatalf("the object is still there: %v", err)
			}
			login, _ := w.database.Login("orders_app_a")
			stays := login.CanLogin
			if told := with(w.events(), "Warning CleanupIncomplete", "orders_app_a", "orders_app_b", "runbooks/CleanupIncomplete.md"); told != stays {
				t.Errorf("a login stays: %t; told by an Event: %t", stays, told)
			}
			if counted := testutil.CollectAndCount(w.shared.metrics.errors) > 0; counted != stays {
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

// A deletion that is refused says so, while what is published is as it was.
func TestADeletionThatIsKeptUpSaysByWhom(t *testing.T) {
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
		t.Fatalf("the object is still there: %v%s", err, describeConditions(object))
	}
	if events := w.events(); !with(events, "Warning CleanupIncomplete", "Secret orders-db and ledger Secret rekey-databasecredential-orders", "kubectl -n "+w.namespace+" delete secret") {
		t.Errorf("Events: %q", events)
	}
}

// The same where the ledger is a copy of another owner's: what carries the deleted object's own mark is removed, or told.
func TestADeletionWithACopiedLedgerEndsLikeAnyOther(t *testing.T) {
	t.Parallel()
	for place, meet := range map[string]func(*drive, error){
		"opening the server":  func(d *drive, err error) { d.subject.Source, d.subject.SourceErr = nil, err },
		"dropping the logins": func(d *drive, err error) { d.source.removeErr = err },
	} {
		for name, obstacle := range obstacles {
			t.Run(place+"/"+name, func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.store.loadErr = fault.Permanent(fault.Fenced, errors.New("the ledger is a copy"))
				d.subject.Deleting, d.subject.Delete = true, true
				var left []Remains
				d.subject.LeaveBehind = func(_ context.Context, r Remains) error { left = append(left, r); return nil }
				meet(d, obstacle)
				d.untilWithdrawn(t)
				if waited := d.clock.Since(driveStart); waited < withdrawPatience || waited > 2*withdrawPatience+2*withdrawRetry {
					t.Errorf("it was released after %s", waited)
				}
				if len(left) != 1 || left[0].Remote == nil || left[0].Kept != nil || !left[0].Copied {
					t.Errorf("left behind, as it was told: %+v", left)
				}
			})
		}
	}
	for _, deletes := range []bool{true, false} {
		d := published(t)
		d.store.loadErr = fault.Permanent(fault.Fenced, errors.New("the ledger is a copy"))
		d.subject.Deleting, d.subject.Delete = true, deletes
		d.subject.LeaveBehind = func(_ context.Context, r Remains) error { t.Errorf("told %+v", r); return nil }
		if out := d.pass(); !out.Withdrawn || (len(d.source.calls) > 0) != deletes {
			t.Errorf("delete %t: withdrawn %t, calls %q: %v", deletes, out.Withdrawn, d.source.calls, out.Err)
		}
	}
}

// Logins whose mark names the deleted object are dropped although its ledger was replaced by a copy; those of the copy's
// owner stay, and are never advised to be dropped.
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
				t.Fatalf("the object is still there: %v%s", err, describeConditions(object))
			}
			if other.open("shop_app_a") != tc.stays || !w.open("orders_app_a") {
				t.Errorf("its own login is open: %t, that of the other owner: %t", other.open("shop_app_a"), w.open("orders_app_a"))
			}
			told := other.events()
			if with(told, "Warning CleanupIncomplete", "shop_app_a", "if their marks name this object", "drop only those whose mark names it") != tc.stays || !tc.stays && with(told, "CleanupIncomplete") {
				t.Errorf("told %q, and a login stays: %t", told, tc.stays)
			}
		})
	}
}
