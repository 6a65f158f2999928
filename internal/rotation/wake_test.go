// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/size"
)

// seedOf returns the seed of a random test, and logs it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := size.Seed()
	t.Logf("this seed again: REKEY_SEED=%d", seed)
	return seed
}

// random returns a healthy credential of any age with any policy: a certificate, with times in whole seconds as in X.509, or
// a password.
func random(dice *rand.Rand, uid int) rotation.Observation {
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(dice.Int64N(int64(most-least)))
	}
	o := with(local)
	o.UID = fmt.Sprint("uid-", uid)
	o.Current.Seq = 1 + dice.Int64N(1000)
	lifetime := between(time.Minute, 100*24*time.Hour)
	issued := start.Add(-between(0, lifetime/4))
	o.Current.CommittedAt, o.Current.PublishedAt, o.Current.ProposedAt = issued, issued, issued
	o.Policy = rotation.Policy{JitterPercent: dice.IntN(51), WarnBefore: between(0, lifetime), AlarmBefore: between(0, lifetime)}
	if certificate := dice.IntN(2) == 0; certificate {
		o.Current.NotAfter = issued.Truncate(time.Second).Add(lifetime.Truncate(time.Second))
		o.Policy.RenewBefore = between(time.Second, lifetime-lifetime/8)
	}
	if o.Current.NotAfter.IsZero() || dice.IntN(2) == 0 {
		o.Policy.Interval = between(20*time.Second, lifetime)
	}
	return o
}

// R9: a controller that sleeps until WakeAt, with timers that are never early, finds the credential due at the first wake
// after the due time and not before. A due time computed once with and once without fractions of a second would be missed.
func TestNoDueTimeIsMissed(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(seedOf(t), 9))
	for n := range 3000 {
		o := random(dice, n)
		due := rotation.Due(o)
		if due.IsZero() {
			t.Fatalf("case %d is never due: %+v", n, o.Policy)
		}
		for wakes := 0; ; wakes++ {
			d := rotation.Next(o)
			if d.Step == rotation.StepPropose {
				break
			}
			if !o.Now.Before(due) {
				t.Fatalf("case %d was due at %s, and at %s it does %s (%s)", n, due, o.Now, d.Step, d.Reason)
			}
			if o.Now.Before(due) && d.WakeAt.After(due) {
				t.Fatalf("case %d is due at %s, and sleeps from %s to %s", n, due, o.Now, d.WakeAt)
			}
			if !d.WakeAt.After(o.Now) || wakes > 5000 {
				t.Fatalf("case %d does not reach its due time %s: %d wakes, now %s", n, due, wakes, o.Now)
			}
			// Timers count nanoseconds, the API seconds; both are late, never early.
			late := time.Duration(dice.Int64N(int64(20 * time.Millisecond)))
			o.Now = d.WakeAt.Add(late)
		}
		if o.Now.Before(due) {
			t.Fatalf("case %d is rotated at %s, before it is due at %s", n, o.Now, due)
		}
	}
}

// R10: timers stop while a machine sleeps, and a clock may be set. Whatever the decision, the wall clock is read again
// within the hour, and the next reconcile catches every time that matters.
func TestNoDecisionWaitsLongerThanAnHour(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(seedOf(t), 10))
	for n := range 3000 {
		o := random(dice, n)
		for range 20 {
			d := rotation.Next(o)
			if sleep := d.WakeAt.Sub(o.Now); sleep <= 0 || sleep > time.Hour {
				t.Fatalf("case %d sleeps for %s in row %s", n, sleep, d.Row)
			}
			// A jump, forward or back, of up to ten days.
			o.Now = o.Now.Add(time.Duration(dice.Int64N(int64(20*24*time.Hour))) - 10*24*time.Hour)
		}
	}
}

// R25: five thousand objects created in the same second do not become due together, nor do their successors.
func TestFiveThousandRenewalsAreSpread(t *testing.T) {
	t.Parallel()
	const objects, window = 5000, 144 * time.Minute // a tenth of a day
	for name, seq := range map[string]int64{"the first version": 1, "the second": 2, "the hundredth": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			perMinute, together := map[int64]int{}, map[time.Time]int{}
			for n := range objects {
				o := with(aged(0), func(o *rotation.Observation) {
					o.UID, o.Current.Seq = fmt.Sprintf("5f0c2a3e-0000-4000-8000-%012d", n), seq
				})
				due := rotation.Due(o)
				perMinute[int64(due.Sub(start)/time.Minute)]++
				together[due.Truncate(time.Second)]++
			}
			// Spread evenly, that is 35 per minute and less than one per second.
			if len(perMinute) < int(window/time.Minute)*9/10 {
				t.Errorf("all are due within %d minutes of %d", len(perMinute), int(window/time.Minute))
			}
			for minute, count := range perMinute {
				if count > 2*objects/int(window/time.Minute)+10 {
					t.Errorf("%d of %d are due in minute %d", count, objects, minute)
				}
			}
			for second, count := range together {
				if count > 10 {
					t.Errorf("%d of %d are due in the second %s", count, objects, second)
				}
			}
		})
	}
}

// TestNothingThatExpiresIsRenewedContinuously uses policies that were never validated: a stored policy may be from an earlier
// release, and a policy does not know lifetimes.
func TestNothingThatExpiresIsRenewedContinuously(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(seedOf(t), 22))
	lives := []time.Duration{time.Minute, 61 * time.Second, 89 * time.Second, 90 * time.Second, 10 * time.Minute, time.Hour, 24 * time.Hour, 876_000 * time.Hour, math.MaxInt64}
	for n := range 3000 {
		o := with(local)
		lifetime := lives[dice.IntN(len(lives))]
		o.UID, o.Current.Seq = fmt.Sprint("uid-", n), 1+dice.Int64N(1000)
		o.Current.CommittedAt, o.Current.NotAfter = start, start.Add(lifetime)
		o.Policy = rotation.Policy{JitterPercent: dice.IntN(101), WarnBefore: time.Duration(dice.Int64()), AlarmBefore: time.Duration(dice.Int64()),
			RenewBefore: []time.Duration{0, time.Second, lifetime / 2, lifetime - time.Second, lifetime - 1, lifetime, math.MaxInt64}[dice.IntN(7)],
			Interval:    []time.Duration{0, 1, time.Second, 30 * time.Second, time.Hour, math.MaxInt64}[dice.IntN(6)]}
		age := rotation.Due(o).Sub(start)
		if age < max(time.Minute, lifetime/10) && (lifetime >= 90*time.Second || age < lifetime/3*2) {
			t.Fatalf("case %d: a version that lives %s is due after %s: %+v", n, lifetime, age, o.Policy)
		}
		if o.Policy.RenewBefore > 0 && age > lifetime {
			t.Fatalf("case %d: a version that lives %s is due after its end: %s: %+v", n, lifetime, age, o.Policy)
		}
		h := rotation.HealthOf(o)
		if h.WarnAt.After(h.AlarmAt) || h.AlarmAt.After(h.Deadline) || h.WarnAt.Before(h.Due) {
			t.Fatalf("case %d: due %s, it warns at %s, alarms at %s, and ends at %s: %+v", n, h.Due, h.WarnAt, h.AlarmAt, h.Deadline, o.Policy)
		}
	}
}
