// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/size"
)

// R12: a virtual clock that moves from wake-up to wake-up for weeks. No rotation is doubled and none is skipped.
func TestInTwoWeeksThereAreTwoWeeksOfRotations(t *testing.T) {
	days := size.Choose(2, 4, 14) // make crash lives both weeks.
	w := newWorld(t)
	identity, object := aClientIdentity(), aCredential()
	identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
	identity.Spec.Lifetime = duration(72 * time.Hour)
	ready(w, aPolicy(), anAuthority(), identity, anAdminSecret(), aServer(), object)
	begun := w.clock.Now()
	for _, o := range []client.Object{identity, object} {
		w.clock.SetTime(begun)
		revision, changed, rotations := int64(1), begun, 0
		for w.clock.Now().Before(begun.Add(time.Duration(days) * 24 * time.Hour)) {
			result := w.reconcile(o)
			if result.RequeueAfter <= 0 || result.RequeueAfter > time.Hour {
				t.Fatalf("%s sleeps for %s", kindOf(o), result.RequeueAfter)
			}
			if now := revisionOf(o); now != revision {
				gap := w.clock.Now().Sub(changed)
				// An interval is a day, at most a tenth shorter, and the delay is at most one tick of the clock.
				if now != revision+1 || gap < 21*time.Hour+36*time.Minute || gap > 24*time.Hour+time.Minute {
					t.Errorf("%s went from revision %d to %d after %s", kindOf(o), revision, now, gap)
				}
				revision, changed, rotations = now, w.clock.Now(), rotations+1
			}
			w.step(result.RequeueAfter)
		}
		if rotations < days-1 || rotations > days*10/9 {
			t.Errorf("%s rotated %d times in %d days", kindOf(o), rotations, days)
		}
	}
}

func revisionOf(o client.Object) int64 {
	switch o := o.(type) {
	case *v1alpha1.ClientIdentity:
		return o.Status.Revision
	case *v1alpha1.DatabaseCredential:
		return o.Status.Revision
	}
	return 0
}

// R10: a machine that slept, or a clock that was changed. One rotation makes up for it, not one per day; and while the clock
// is behind recorded times, nothing is rotated and nothing retired.
func TestAClockThatJumpsNeitherRepeatsNorLosesARotation(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	first := w.secret("orders-db")

	w.step(30 * 24 * time.Hour)
	w.settle(object, 5)
	if object.Status.Revision != 2 {
		t.Fatalf("revision %d after thirty days asleep, want 2", object.Status.Revision)
	}

	// Back to where it was: everything recorded is in the future.
	w.step(-30 * 24 * time.Hour)
	w.written()
	for range 20 {
		if result := w.reconcile(object); result.RequeueAfter > time.Hour {
			t.Fatalf("it sleeps for %s", result.RequeueAfter)
		}
		w.step(30 * time.Minute)
	}
	second := w.secret("orders-db")
	if object.Status.Revision != 2 || !w.database.Accepts(string(first.Data["username"]), string(first.Data["password"])) ||
		!w.database.Accepts(string(second.Data["username"]), string(second.Data["password"])) {
		t.Errorf("with a clock that went back, revision %d, and a login was retired", object.Status.Revision)
	}

	// And forward again: life continues where it was.
	w.step(30*24*time.Hour + 2*time.Hour)
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	if w.database.Accepts(string(first.Data["username"]), string(first.Data["password"])) {
		t.Error("the previous login was not retired after its overlap")
	}
	w.step(24 * time.Hour)
	w.settle(object, 5)
	if object.Status.Revision != 3 {
		t.Errorf("revision %d a day later, want 3:%s", object.Status.Revision, describeConditions(object))
	}
}

// R11: a process that starts right after an issue knows when the next one is due, from stored state alone.
func TestARestartRightAfterAnIssueKeepsTheSchedule(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	due := identity.Status.RenewalTime.Time
	for w.clock.Now().Before(due) {
		w.restart()
		result := w.reconcile(identity)
		if identity.Status.Revision != 1 {
			t.Fatalf("renewed at %s, before %s", w.clock.Now(), due)
		}
		if wake := w.clock.Now().Add(result.RequeueAfter); wake.After(due.Add(time.Second)) {
			t.Fatalf("a process that started at %s sleeps until %s, past %s", w.clock.Now(), wake, due)
		}
		w.step(result.RequeueAfter)
	}
	w.restart()
	w.reconcile(identity)
	if identity.Status.Revision != 2 {
		t.Errorf("not renewed at %s", due)
	}
}
