// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/rotation"
)

// T4: a login that rotates as soon as it may never warns, however close its overlap is to its interval; one that does not
// rotate is overdue soon after.
func TestAHealthyLoginNeverWarns(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(seedOf(t), 4))
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(dice.Int64N(int64(most-least)+1))
	}
	for n := range 3000 {
		o := with()
		o.UID = string(rune('a'+n%26)) + o.UID
		o.Traits.Durable, o.Traits.Provable, o.Traits.Revocable, o.ClockKnown = true, true, true, true
		o.Policy = rotation.Policy{Interval: between(30*time.Second, 90*24*time.Hour), JitterPercent: dice.IntN(51)}
		o.Policy.Overlap = between(0, o.Policy.Interval-time.Second)
		o.Policy.MaxAge = o.Policy.Interval + between(time.Second, o.Policy.Interval)
		o.Policy.WarnBefore, o.Policy.AlarmBefore = between(0, 48*time.Hour), between(0, 24*time.Hour)
		o.Target = rotation.TargetShowsCurrent
		calm := func(when string) {
			if h := rotation.HealthOf(o); h.Overdue || h.Level != rotation.LevelNone {
				t.Fatalf("case %d, revision %d %s (%s after the commit): overdue %t, level %q; policy %+v",
					n, o.Current.Seq, when, o.Now.Sub(o.Current.CommittedAt), h.Overdue, h.Level, o.Policy)
			}
		}
		for seq := int64(1); seq < 5; seq++ {
			current := *o.Current
			current.Seq, current.Overlap, current.CommittedAt, current.PublishedAt = seq, o.Policy.Overlap, o.Now, o.Now.Add(time.Second)
			o.Previous = nil
			if seq > 1 {
				previous := *o.Current
				o.Previous = &previous
			}
			o.Current = &current
			due := rotation.Due(o)
			start := due
			if end := rotation.RetireAt(o); o.Previous != nil {
				calm("when it was published")
				o.Now = end
				calm("at the end of the overlap")
				o.Previous = nil
				if end.After(start) {
					start = end
				}
			}
			o.Now = start
			calm("when the next rotation starts")
			o.Now = start.Add(20 * time.Millisecond)
			calm("while the next rotation is under way")
		}
		o.Now = o.Now.Add(time.Hour + time.Second)
		if !rotation.HealthOf(o).Overdue {
			t.Fatalf("case %d: nothing rotates for an hour, and it is not overdue; policy %+v", n, o.Policy)
		}
	}
}
