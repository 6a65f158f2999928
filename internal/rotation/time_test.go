// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
)

func aged(d time.Duration) change {
	return func(o *rotation.Observation) {
		o.Current.CommittedAt, o.Current.PublishedAt = o.Now.Add(-d), o.Now.Add(-d)
	}
}

func policy(p rotation.Policy) change { return func(o *rotation.Observation) { o.Policy = p } }

func expires(in time.Duration) change {
	return func(o *rotation.Observation) { o.Current.NotAfter = o.Now.Add(in) }
}

func TestDueIsTheEarlierOfTheTwoRules(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		see  rotation.Observation
		want time.Time
	}{
		"by the interval":                     {see: with(aged(time.Hour), policy(rotation.Policy{Interval: 6 * time.Hour})), want: start.Add(5 * time.Hour)},
		"by the expiry":                       {see: with(aged(time.Hour), expires(9*time.Hour), policy(rotation.Policy{RenewBefore: 3 * time.Hour})), want: start.Add(6 * time.Hour)},
		"the interval before the expiry":      {see: with(aged(time.Hour), expires(9*time.Hour), policy(rotation.Policy{RenewBefore: 3 * time.Hour, Interval: 2 * time.Hour})), want: start.Add(time.Hour)},
		"the expiry before the interval":      {see: with(aged(time.Hour), expires(9*time.Hour), policy(rotation.Policy{RenewBefore: 3 * time.Hour, Interval: 20 * time.Hour})), want: start.Add(6 * time.Hour)},
		"never without a rule":                {see: with(policy(rotation.Policy{})), want: time.Time{}},
		"never without a version":             {see: with(noCurrent), want: time.Time{}},
		"an unknown age is not a great age":   {see: with(func(o *rotation.Observation) { o.Current.CommittedAt = time.Time{} }), want: time.Time{}},
		"a lifetime shorter than asked for":   {see: with(aged(0), expires(3*time.Hour), policy(rotation.Policy{RenewBefore: 8 * time.Hour})), want: start.Add(2 * time.Hour)},
		"a version that was issued expired":   {see: with(aged(0), expires(-time.Hour), policy(rotation.Policy{RenewBefore: time.Hour})), want: start.Add(time.Minute)},
		"an interval that is absurdly short":  {see: with(aged(0), policy(rotation.Policy{Interval: time.Nanosecond})), want: start.Add(10 * time.Second)},
		"a jitter of more than all is capped": {see: with(aged(0), policy(rotation.Policy{Interval: time.Hour, JitterPercent: -5})), want: start.Add(time.Hour)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rotation.Due(tc.see); !got.Equal(tc.want) {
				t.Errorf("due at %s, want %s", got, tc.want)
			}
		})
	}
}

func TestJitterIsEarlierOnlyAndAlwaysTheSame(t *testing.T) {
	t.Parallel()
	latest, earliest := 24*time.Hour, 24*time.Hour*9/10
	distinct := map[time.Time]bool{}
	for uid := range 500 {
		o := with(aged(0), func(o *rotation.Observation) { o.UID = fmt.Sprint("uid-", uid) })
		due := rotation.Due(o)
		if due.After(start.Add(latest)) || due.Before(start.Add(earliest)) {
			t.Fatalf("due %s after the commit, want between %s and %s", due.Sub(start), earliest, latest)
		}
		o.Now = o.Now.Add(time.Hour)
		if again := rotation.Due(o); !again.Equal(due) {
			t.Fatalf("due moved from %s to %s", due, again)
		}
		distinct[due.Truncate(10*time.Minute)] = true
	}
	if len(distinct) < 12 {
		t.Errorf("500 objects are due within %d of 15 stretches of ten minutes", len(distinct))
	}
}

func TestHealthLevelsStartAfterTheRenewal(t *testing.T) {
	t.Parallel()
	// Committed at start, renewed at 16h, expires at 24h: the warning can start at 24h - 0.7*8h = 18h24m at the earliest.
	certificate := func(now time.Duration, p rotation.Policy) rotation.Observation {
		o := with(local, policy(p))
		o.Current.CommittedAt, o.Current.PublishedAt, o.Current.NotAfter = start, start, start.Add(24*time.Hour)
		o.Now = start.Add(now)
		return o
	}
	usual := rotation.Policy{RenewBefore: 8 * time.Hour, WarnBefore: 4 * time.Hour, AlarmBefore: time.Hour}
	eager := rotation.Policy{RenewBefore: 8 * time.Hour, WarnBefore: 20 * time.Hour, AlarmBefore: 10 * time.Hour}
	cases := map[string]struct {
		see     rotation.Observation
		level   rotation.Level
		next    time.Duration
		overdue bool
	}{
		"just issued":                             {see: certificate(time.Hour, usual), level: rotation.LevelNone, next: 17 * time.Hour},
		"due, and not yet overdue":                {see: certificate(16*time.Hour, usual), level: rotation.LevelNone, next: 17 * time.Hour},
		"overdue an hour later":                   {see: certificate(17*time.Hour, usual), level: rotation.LevelNone, next: 20 * time.Hour, overdue: true},
		"expires soon, to the second":             {see: certificate(20*time.Hour, usual), level: rotation.ExpiresSoon, next: 23 * time.Hour, overdue: true},
		"expires imminently, to the second":       {see: certificate(23*time.Hour, usual), level: rotation.ExpiresImminently, next: 24 * time.Hour, overdue: true},
		"a second before the end":                 {see: certificate(24*time.Hour-time.Second, usual), level: rotation.ExpiresImminently, next: 24 * time.Hour, overdue: true},
		"expired, to the second":                  {see: certificate(24*time.Hour, usual), level: rotation.Expired, overdue: true},
		"a warning that would precede renewal":    {see: certificate(18*time.Hour, eager), level: rotation.LevelNone, next: 18*time.Hour + 24*time.Minute, overdue: true},
		"a trimmed warning":                       {see: certificate(18*time.Hour+24*time.Minute, eager), level: rotation.ExpiresSoon, next: 21*time.Hour + 12*time.Minute, overdue: true},
		"an alarm in proportion to the warning":   {see: certificate(21*time.Hour+12*time.Minute, eager), level: rotation.ExpiresImminently, next: 24 * time.Hour, overdue: true},
		"suspended it expires anyway":             {see: func() rotation.Observation { o := certificate(25*time.Hour, usual); o.Suspended = true; return o }(), level: rotation.Expired, overdue: true},
		"blocked it is overdue anyway":            {see: func() rotation.Observation { o := certificate(18*time.Hour, usual); unmet(&o); return o }(), level: rotation.LevelNone, next: 20 * time.Hour, overdue: true},
		"without a version there is nothing":      {see: with(noCurrent), level: rotation.LevelNone},
		"an alarm longer than the warning is cut": {see: certificate(20*time.Hour, rotation.Policy{RenewBefore: 8 * time.Hour, WarnBefore: 4 * time.Hour, AlarmBefore: 6 * time.Hour}), level: rotation.ExpiresImminently, next: 24 * time.Hour, overdue: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := rotation.HealthOf(tc.see)
			want := time.Time{}
			if tc.next != 0 {
				want = start.Add(tc.next)
			}
			if h.Level != tc.level || h.Overdue != tc.overdue || !h.NextLevelAt.Equal(want) {
				t.Errorf("level %q, overdue %t, next level at %s; want %q, %t, %s", h.Level, h.Overdue, h.NextLevelAt, tc.level, tc.overdue, want)
			}
			if d := rotation.Next(tc.see); !want.IsZero() && d.WakeAt.After(want) {
				t.Errorf("it sleeps until %s, past the next level at %s", d.WakeAt, want)
			}
		})
	}
}

func TestAPasswordHasADeadlineToo(t *testing.T) {
	t.Parallel()
	// Due by 24h at the latest, deadline at 72h: 0.7*48h = 33h36m, so the policy's day applies.
	at := func(age time.Duration) rotation.Level { return rotation.HealthOf(with(aged(age))).Level }
	want := []rotation.Level{rotation.LevelNone, rotation.LevelNone, rotation.ExpiresSoon, rotation.ExpiresImminently, rotation.Expired}
	got := []rotation.Level{at(time.Hour), at(47 * time.Hour), at(48 * time.Hour), at(68 * time.Hour), at(72 * time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAHealthyRotationNeverWarns(t *testing.T) {
	t.Parallel()
	for _, lifetime := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 90 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		for _, warn := range []time.Duration{time.Second, lifetime / 10, lifetime, 10 * lifetime} {
			o := with(local, policy(rotation.Policy{RenewBefore: lifetime / 3, WarnBefore: warn, AlarmBefore: warn / 2, JitterPercent: 10}))
			o.Current.CommittedAt, o.Current.NotAfter = start, start.Add(lifetime)
			o.Now = start.Add(lifetime - lifetime/3 + lifetime/20)
			if h := rotation.HealthOf(o); h.Level != rotation.LevelNone {
				t.Errorf("lifetime %s, warning %s: %s right after the renewal was due", lifetime, warn, h.Level)
			}
		}
	}
}

func TestEnoughAttemptsFitBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	for _, left := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 8 * time.Hour, 5 * 24 * time.Hour, 300 * 24 * time.Hour} {
		attempts, at := 0, time.Duration(0)
		for at < left {
			attempts++
			wait := rotation.Backoff(attempts, rotation.Urgency{Left: left - at, Deadline: true, Published: true})
			if wait < time.Second || wait > time.Hour {
				t.Fatalf("with %s left the wait after attempt %d is %s", left-at, attempts, wait)
			}
			at += wait
		}
		if attempts < 10 {
			t.Errorf("only %d attempts fit into %s", attempts, left)
		}
	}
}

func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		attempts int
		urgency  rotation.Urgency
		want     time.Duration
	}{
		"the first":            {attempts: 1, want: time.Second},
		"it doubles":           {attempts: 4, want: 8 * time.Second},
		"nothing is published": {attempts: 40, want: 5 * time.Minute},
		"no deadline":          {attempts: 40, urgency: rotation.Urgency{Published: true}, want: 10 * time.Minute},
		"a far deadline":       {attempts: 40, urgency: rotation.Urgency{Published: true, Deadline: true, Left: 1000 * time.Hour}, want: time.Hour},
		"a day":                {attempts: 40, urgency: rotation.Urgency{Published: true, Deadline: true, Left: 24 * time.Hour}, want: 28*time.Minute + 48*time.Second},
		"an hour":              {attempts: 40, urgency: rotation.Urgency{Published: true, Deadline: true, Left: time.Hour}, want: 6 * time.Minute},
		"the last second":      {attempts: 40, urgency: rotation.Urgency{Published: true, Deadline: true, Left: time.Second}, want: time.Second},
		"too late":             {attempts: 40, urgency: rotation.Urgency{Published: true, Deadline: true, Left: -time.Hour}, want: 5 * time.Minute},
		"an impossible count":  {attempts: -7, want: time.Second},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rotation.Backoff(tc.attempts, tc.urgency); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestRefusalBackoffBounds(t *testing.T) {
	t.Parallel()
	near := func(left time.Duration) rotation.Urgency {
		return rotation.Urgency{Published: true, Deadline: true, Left: left}
	}
	cases := map[string]struct {
		refused int
		urgency rotation.Urgency
		want    time.Duration
	}{
		"the first":            {refused: 1, want: time.Minute},
		"it doubles":           {refused: 4, want: 8 * time.Minute},
		"nothing is published": {refused: 40, want: time.Hour},
		"a far deadline":       {refused: 40, urgency: near(1000 * time.Hour), want: time.Hour},
		"an hour":              {refused: 40, urgency: near(time.Hour), want: 6 * time.Minute},
		"the last minutes":     {refused: 40, urgency: near(5 * time.Minute), want: time.Minute},
		"too late":             {refused: 40, urgency: near(-time.Hour), want: time.Hour},
		"an impossible count":  {refused: -7, want: time.Minute},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := rotation.RefusalBackoff(tc.refused, tc.urgency); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestFirstProbesAfterAStartAreSpread(t *testing.T) {
	t.Parallel()
	minutes := map[time.Duration]int{}
	for uid := range 1000 {
		o := with(func(o *rotation.Observation) { o.UID, o.Proof, o.FirstSeen = fmt.Sprint(uid), rotation.Proof{}, start })
		at := rotation.ProbeAt(o).Sub(start)
		if at < 0 || at >= 5*time.Minute {
			t.Fatalf("the first probe is %s after the start", at)
		}
		minutes[at.Truncate(time.Minute)]++
	}
	for minute, n := range minutes {
		if n > 260 {
			t.Errorf("%d of 1000 probes fall into the minute after %s", n, minute)
		}
	}
}

func TestTheNextVersionTakesTheOtherSlotAndAHigherNumber(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		see  rotation.Observation
		seq  int64
		slot string
	}{
		"the first":                            {see: with(noCurrent, func(o *rotation.Observation) { o.LastSeq = 0 }), seq: 1, slot: "a"},
		"after the one in b":                   {see: with(), seq: 5, slot: "a"},
		"after the one in a":                   {see: with(func(o *rotation.Observation) { o.Current.Slot = "a" }), seq: 5, slot: "b"},
		"after a discarded one":                {see: with(func(o *rotation.Observation) { o.LastSeq = 9 }), seq: 10, slot: "a"},
		"without slots":                        {see: with(local), seq: 5, slot: ""},
		"a ledger whose last number is behind": {see: with(func(o *rotation.Observation) { o.LastSeq = 1 }), seq: 5, slot: "a"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if seq, slot := rotation.NextSeq(tc.see), rotation.NextSlot(tc.see); seq != tc.seq || slot != tc.slot {
				t.Errorf("version %d in slot %q, want %d in %q", seq, slot, tc.seq, tc.slot)
			}
		})
	}
}

func FuzzNext(f *testing.F) {
	f.Add([]byte{}, int64(0), int64(0), int64(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}, int64(time.Hour), int64(24*time.Hour), int64(-5))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, int64(1)<<62, int64(-1)<<62, int64(1)<<61)
	f.Fuzz(func(t *testing.T, raw []byte, x, y, z int64) {
		o := scrambled(raw, x, y, z)
		d := rotation.Next(o)
		if !d.WakeAt.After(o.Now) {
			t.Errorf("it sleeps until %s, which is not after %s", d.WakeAt, o.Now)
		}
		if d.WakeAt.Sub(o.Now) > time.Hour {
			t.Errorf("it sleeps for %s", d.WakeAt.Sub(o.Now))
		}
		if d.Row == "" || d.Message == "" && d.Unmet == nil || d.Reason == "" && d.Unmet == nil {
			t.Errorf("a decision without a message: %+v", d)
		}
		if d.Step == rotation.StepRetire && (o.Previous == nil || o.Current == nil) {
			t.Error("it retires a version that does not exist")
		}
	})
}

// scrambled builds an arbitrary observation from a few bytes and numbers.
func scrambled(raw []byte, x, y, z int64) rotation.Observation {
	next := func() byte {
		if len(raw) == 0 {
			return 0
		}
		b := raw[0]
		raw = raw[1:]
		return b
	}
	at := func() time.Time {
		switch next() % 6 {
		case 0:
			return time.Time{}
		case 1:
			return start.Add(time.Duration(x))
		case 2:
			return start.Add(time.Duration(y))
		case 3:
			return start.Add(-time.Duration(z))
		case 4:
			return time.Unix(x, y).UTC()
		}
		return start.Add(-time.Duration(next()) * time.Minute)
	}
	stages := []rotation.Stage{rotation.Proposed, rotation.Staged, rotation.Verified, rotation.Current, rotation.Previous, rotation.Discarded, "", "odd"}
	version := func() *rotation.Version {
		if next()%3 == 0 {
			return nil
		}
		return &rotation.Version{
			Seq: int64(next()) - 3, Slot: []string{"", "a", "b", "c"}[next()%4], Stage: stages[int(next())%len(stages)],
			Fingerprint: []string{"v1", "v2"}[next()%2], ProposedAt: at(), CommittedAt: at(), PublishedAt: at(), NotAfter: at(), Overlap: time.Duration(z),
		}
	}
	request := func() rotation.Request {
		b := next()
		return rotation.Request{Token: []string{"", "x"}[b%2], Recorded: b&2 != 0, Honored: b&4 != 0}
	}
	flags := next()
	o := rotation.Observation{
		Now: start, ClockOff: time.Duration(x), ClockKnown: flags&1 != 0, UID: string(raw), FirstSeen: at(),
		Policy: rotation.Policy{
			Interval: time.Duration(x), JitterPercent: int(int8(next())), RenewBefore: time.Duration(y), MaxAge: time.Duration(z), Overlap: time.Duration(y),
			WarnBefore: time.Duration(x), AlarmBefore: time.Duration(z), ProbeInterval: time.Duration(y),
		},
		Traits:      credential.Traits{Durable: flags&2 != 0, Provable: (flags&2 != 0) != (flags&64 != 0), Revocable: (flags&2 != 0) != (flags&128 != 0), Minted: flags&192 == 192, Slots: [][]string{nil, {"a"}, {"a", "b"}}[int(next())%3]},
		Fingerprint: "v1", Pending: version(), Current: version(), Previous: version(), LastSeq: int64(next()),
		Target: []rotation.TargetState{rotation.TargetShowsCurrent, rotation.TargetDiffers, rotation.TargetMissing, rotation.TargetForeign, ""}[next()%5],
		Proof:  rotation.Proof{Seq: int64(next()) - 3, At: at(), Answer: credential.Answer(next() % 4), Rejections: int(next() % 4), InThisReconcile: flags&4 != 0},
		Marker: rotation.Marker{State: []rotation.MarkerState{"", rotation.MarkerOurs, rotation.MarkerForeign, rotation.MarkerMissing, rotation.MarkerAbsent}[next()%5], Seq: int64(next())},
		Rotate: request(), RetirePrevious: request(), Deleting: flags&8 != 0, Suspended: flags&16 != 0, PendingAnswer: credential.Answer(next() % 3),
	}
	if flags&32 != 0 {
		unmet(&o)
	}
	return o
}
