// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

const (
	// minimumAge of a version before it can be due, whatever the spec or the issuer says: no reconcile storm and no
	// issuer that answers with shorter lifetimes than asked for may turn into a storm of rotations.
	minimumAge = 10 * time.Second
	// A version that expires is not due before it is as old as the longer of leastLife and a leastShare-th of its lifetime,
	// whatever spec and policy ask for; but never later than two thirds of its lifetime.
	leastLife  = time.Minute
	leastShare = 10
	// trustedClock is the difference to the API server's clock below which a previous version may be retired.
	trustedClock = time.Minute
	// futureTolerance is how far in the future a recorded time may lie before one of the clocks must be wrong.
	futureTolerance = 5 * time.Minute
	// startPace is the time over which the first probes after a start are spread.
	startPace = 5 * time.Minute
	// secondLook is the wait after a first rejection: a statement whose client died may commit seconds later.
	secondLook = 10 * time.Second
	// rejectedLook is the longest wait between two probes of a version that the remote end refuses.
	rejectedLook = 10 * time.Minute
	// probeJitterPercent spreads the probes of many credentials.
	probeJitterPercent = 10
)

// Due is when the current version is to be replaced; zero for never. It is the earlier of NotAfter-RenewBefore and
// CommittedAt+Interval, earlier still by the jitter, which is a hash of the object and the version: a random one could
// skip a renewal for ever.
func Due(o Observation) time.Time {
	latest := renewal(o)
	if latest.IsZero() || o.Current.CommittedAt.IsZero() {
		return latest
	}
	age := latest.Sub(o.Current.CommittedAt)
	due := latest.Add(-jitter(o.UID, o.Current.Seq, o.Policy.JitterPercent, age))
	if floor := o.Current.CommittedAt.Add(leastAge(o.Current)); due.Before(floor) {
		return floor
	}
	return due
}

// renewal is Due without jitter: the latest instant at which a healthy rotation begins.
func renewal(o Observation) time.Time {
	at := asked(o)
	if at.IsZero() || o.Current.CommittedAt.IsZero() {
		return at
	}
	if floor := o.Current.CommittedAt.Add(leastAge(o.Current)); at.Before(floor) {
		return floor
	}
	return at
}

// HeldBack reports whether spec and policy ask for a rotation sooner than leastAge allows; also with a RenewBefore as long as
// the lifetime, which a spec that was stored before the API server refused it may hold.
func HeldBack(o Observation) bool {
	at := asked(o)
	if c := o.Current; c != nil && !c.NotAfter.IsZero() {
		at = earliest(at, c.NotAfter.Add(-o.Policy.RenewBefore))
	}
	return !at.IsZero() && !o.Current.CommittedAt.IsZero() && at.Before(o.Current.CommittedAt.Add(leastAge(o.Current)))
}

// leastAge is how old a version is at least when it is due. Of a lifetime of less than a minute and a half, a minute would
// leave too little time to renew: two thirds come first.
func leastAge(c *Version) time.Duration {
	if c.NotAfter.IsZero() {
		return minimumAge
	}
	lifetime := c.NotAfter.Sub(c.CommittedAt)
	if lifetime < leastLife {
		return leastLife // nothing that renews could keep it valid; it is not renewed all the time
	}
	return min(max(leastLife, lifetime/leastShare), lifetime/3*2)
}

// asked is when spec and policy want the current version to be replaced; zero for never.
func asked(o Observation) time.Time {
	c := o.Current
	if c == nil {
		return time.Time{}
	}
	var at time.Time
	if !c.NotAfter.IsZero() {
		at = c.NotAfter.Add(-o.Policy.RenewBefore)
		// An issuer may give less than it was asked for: then two thirds of what it gave.
		if lifetime := c.NotAfter.Sub(c.CommittedAt); !c.CommittedAt.IsZero() && o.Policy.RenewBefore >= lifetime {
			at = c.CommittedAt.Add(lifetime / 3 * 2)
		}
	}
	// A zero CommittedAt means that nobody knows the age, not that the version is as old as the calendar.
	if o.Policy.Interval > 0 && !c.CommittedAt.IsZero() {
		at = earliest(at, c.CommittedAt.Add(o.Policy.Interval))
	}
	return at
}

// earliest of two times of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// jitter is between nothing and percent of window, always the same for one version of one object.
func jitter(uid string, seq int64, percent int, window time.Duration) time.Duration {
	if percent <= 0 || window <= 0 {
		return 0
	}
	return time.Duration(fraction(uid, seq) * float64(min(percent, 100)) / 100 * float64(window))
}

// fraction hashes to [0, 1).
func fraction(uid string, seq int64) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(seq))) //nolint:gosec // G115: only hashed, the sign does not matter.
	// FNV mixes its last bytes badly into the high bits; one more multiplication spreads neighbouring versions.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / math.Exp2(53)
}

// overlapOf is how long the previous version lives at least.
func overlapOf(o Observation) time.Duration {
	if o.Current != nil && o.Current.Overlap > 0 {
		return o.Current.Overlap
	}
	return max(o.Policy.Overlap, 0)
}

// RetireAt is when the previous version may go by the clock alone; zero where there is none or nothing was published.
func RetireAt(o Observation) time.Time {
	if o.Previous == nil || o.Current == nil || o.Current.PublishedAt.IsZero() {
		return time.Time{}
	}
	return o.Current.PublishedAt.Add(overlapOf(o))
}

// overlapEnd is when the overlap after the current version ends, as long as the next rotation waits for it; zero where it waits
// for none. A first version has no overlap to wait for.
func overlapEnd(o Observation) time.Time {
	c := o.Current
	if c == nil || !o.Traits.Remote || !o.Traits.Overlap || c.PublishedAt.IsZero() || c.Seq <= 1 && o.Previous == nil {
		return time.Time{}
	}
	return c.PublishedAt.Add(overlapOf(o))
}

// ProbeAt is when the current version is to be proven next; zero for never.
func ProbeAt(o Observation) time.Time {
	if o.Current == nil || !o.Traits.Remote || o.Policy.ProbeInterval <= 0 {
		return time.Time{}
	}
	if o.Proof.Seq != o.Current.Seq || o.Proof.At.IsZero() {
		return spread(o.FirstSeen, o.UID, min(startPace, o.Policy.ProbeInterval))
	}
	if o.Proof.At.Sub(o.Now) > futureTolerance {
		return o.Now // our own clock went back
	}
	switch {
	case o.Proof.Answer == credential.Rejected && o.Proof.Rejections < 2:
		return o.Proof.At.Add(min(secondLook, o.Policy.ProbeInterval))
	case o.Proof.Answer == credential.Rejected:
		return o.Proof.At.Add(min(rejectedLook, o.Policy.ProbeInterval))
	}
	return o.Proof.At.Add(o.Policy.ProbeInterval - jitter(o.UID, o.Current.Seq, probeJitterPercent, o.Policy.ProbeInterval))
}

// SpreadFrom returns the instant, within five minutes of start, at which the object does what every object does after a
// start. It is always the same for one object and start.
func SpreadFrom(start time.Time, uid string) time.Time { return spread(start, uid, startPace) }

func spread(start time.Time, uid string, over time.Duration) time.Time {
	return start.Add(time.Duration(fraction(uid, 0) * float64(over)))
}

// ClocksAgree reports whether our clock, off from that of the API server, may decide what is taken away.
func ClocksAgree(off time.Duration, known bool) bool { return known && off.Abs() < trustedClock }

// clockTrusted tells whether our clock may take a login away.
func clockTrusted(o Observation) bool {
	return o.ClockKnown && o.ClockOff.Abs() < trustedClock && !recordedInFuture(o)
}

// recordedInFuture tells whether a written-down time lies so far ahead that our clock or the one that wrote it is wrong.
func recordedInFuture(o Observation) bool {
	return latestRecorded(o).Sub(o.Now) > futureTolerance
}

// latestRecorded is the latest instant that is written down about any version.
func latestRecorded(o Observation) time.Time {
	var latest time.Time
	for _, v := range []*Version{o.Pending, o.Current, o.Previous} {
		if v == nil {
			continue
		}
		for _, t := range []time.Time{v.ProposedAt, v.CommittedAt, v.PublishedAt} {
			if t.After(latest) {
				latest = t
			}
		}
	}
	return latest
}
