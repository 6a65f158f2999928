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
	// minimumAge is the age at which a version can first be due, whatever the spec or the issuer says: neither a reconcile storm
	// nor an issuer that grants shorter lifetimes than requested may cause a storm of rotations.
	minimumAge = 10 * time.Second
	// A version that expires is not due before the longer of leastLife and 1/leastShare of its lifetime, whatever the spec and
	// the policy ask for, but never later than after two thirds of its lifetime.
	leastLife  = time.Minute
	leastShare = 10
	// replaceFloor is the age at which a version that is refused can first be replaced: an endpoint that refuses and accepts in turn
	// costs at most one version an hour, which an issuer or a provider may count.
	replaceFloor = time.Hour
	// trustedClock is the difference to the API server's clock below which a previous version may be retired.
	trustedClock = time.Minute
	// futureTolerance is how far in the future a recorded time may lie before one of the clocks must be wrong.
	futureTolerance = 5 * time.Minute
	// startPace is the time over which the first probes after a start are spread.
	startPace = 5 * time.Minute
	// secondLook is the wait after a first rejection: a statement whose client died may commit seconds later.
	secondLook = 10 * time.Second
	// rejectedLook is the longest wait between two probes of a version that the remote system refuses.
	rejectedLook = 10 * time.Minute
	// probeJitterPercent spreads the probes of many credentials.
	probeJitterPercent = 10
)

// Due returns when the current version is to be replaced; zero for never. That is the earlier of NotAfter-RenewBefore and
// CommittedAt+Interval, minus the jitter, which is a hash of the object and the version: a random one could postpone a
// renewal forever.
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

// renewal returns Due without jitter: the latest time at which a healthy rotation starts.
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

// HeldBack reports whether the spec and the policy ask for a rotation sooner than leastAge allows. This includes a
// RenewBefore as long as the lifetime: a spec stored before the API server rejected that may still have it.
func HeldBack(o Observation) bool {
	at := asked(o)
	if c := o.Current; c != nil && !c.NotAfter.IsZero() {
		at = earliest(at, c.NotAfter.Add(-o.Policy.RenewBefore))
	}
	return !at.IsZero() && !o.Current.CommittedAt.IsZero() && at.Before(o.Current.CommittedAt.Add(leastAge(o.Current)))
}

// leastAge returns the age at which a version can first be due. With a lifetime below a minute and a half, a minute would leave
// too little time to renew, so two thirds of the lifetime count instead.
func leastAge(c *Version) time.Duration {
	if c.NotAfter.IsZero() {
		return minimumAge
	}
	lifetime := c.NotAfter.Sub(c.CommittedAt)
	if lifetime < leastLife {
		return leastLife // no renewal could keep it valid, so do not renew all the time
	}
	return min(max(leastLife, lifetime/leastShare), lifetime/3*2)
}

// asked returns when the spec and the policy require the current version to be replaced; zero for never.
func asked(o Observation) time.Time {
	c := o.Current
	if c == nil {
		return time.Time{}
	}
	var at time.Time
	if !c.NotAfter.IsZero() {
		at = c.NotAfter.Add(-o.Policy.RenewBefore)
		// An issuer may grant less than was requested: then two thirds of what it granted.
		if lifetime := c.NotAfter.Sub(c.CommittedAt); !c.CommittedAt.IsZero() && o.Policy.RenewBefore >= lifetime {
			at = c.CommittedAt.Add(lifetime / 3 * 2)
		}
	}
	// A zero CommittedAt means that the age is unknown, not that the version is as old as the calendar.
	if o.Policy.Interval > 0 && !c.CommittedAt.IsZero() {
		at = earliest(at, c.CommittedAt.Add(o.Policy.Interval))
	}
	return at
}

// earliest returns the earlier of two times, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// jitter returns between 0 and percent of window, always the same for one version of one object.
func jitter(uid string, seq int64, percent int, window time.Duration) time.Duration {
	if percent <= 0 || window <= 0 {
		return 0
	}
	return time.Duration(fraction(uid, seq) * float64(min(percent, 100)) / 100 * float64(window))
}

// fraction returns a hash in [0, 1).
func fraction(uid string, seq int64) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(seq))) //nolint:gosec // G115: only hashed, the sign does not matter.
	// FNV mixes its last bytes badly into the high bits; one more multiplication spreads neighboring versions.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / math.Exp2(53)
}

// overlapOf returns the minimum time that the previous version lives.
func overlapOf(o Observation) time.Duration {
	if o.Current != nil && o.Current.Overlap > 0 {
		return o.Current.Overlap
	}
	return max(o.Policy.Overlap, 0)
}

// RetireAt returns when the previous version may be retired by the clock alone; zero if there is none or nothing was published.
func RetireAt(o Observation) time.Time {
	if o.Previous == nil || o.Current == nil || o.Current.PublishedAt.IsZero() {
		return time.Time{}
	}
	return o.Current.PublishedAt.Add(overlapOf(o))
}

// overlapEnd returns the end of the overlap that the next rotation waits for; zero if there is none. A first version has no
// overlap to wait for.
func overlapEnd(o Observation) time.Time {
	c := o.Current
	if c == nil || !o.Traits.Revocable || c.PublishedAt.IsZero() || c.Seq <= 1 && o.Previous == nil {
		return time.Time{}
	}
	return c.PublishedAt.Add(overlapOf(o))
}

// ProbeAt returns when the current version is to be probed next; zero for never.
func ProbeAt(o Observation) time.Time {
	if o.Current == nil || !o.Traits.Provable || o.Policy.ProbeInterval <= 0 {
		return time.Time{}
	}
	if o.Proof.Seq != o.Current.Seq || o.Proof.At.IsZero() {
		return spread(o.FirstSeen, o.UID, min(startPace, o.Policy.ProbeInterval))
	}
	if o.Proof.At.Sub(o.Now) > futureTolerance {
		return o.Now // rekey's own clock was set back
	}
	switch {
	case o.Proof.Answer == credential.Rejected && o.Proof.Rejections < 2:
		return o.Proof.At.Add(min(secondLook, o.Policy.ProbeInterval))
	case o.Proof.Answer == credential.Rejected:
		return o.Proof.At.Add(min(rejectedLook, o.Policy.ProbeInterval))
	}
	return o.Proof.At.Add(o.Policy.ProbeInterval - jitter(o.UID, o.Current.Seq, probeJitterPercent, o.Policy.ProbeInterval))
}

// SpreadFrom returns the time, within five minutes of start, at which the object does what every object does after a start.
// It is always the same for one object and start.
func SpreadFrom(start time.Time, uid string) time.Time { return spread(start, uid, startPace) }

func spread(start time.Time, uid string, over time.Duration) time.Time {
	return start.Add(time.Duration(fraction(uid, 0) * float64(over)))
}

// ClocksAgree reports whether rekey's clock, which differs by off from the API server's, may decide what is retired.
func ClocksAgree(off time.Duration, known bool) bool { return known && off.Abs() < trustedClock }

// replaceableAt returns when the current version may be replaced because it is refused. A time in the future does not count.
func replaceableAt(o Observation) time.Time {
	if recordedInFuture(o) || o.Current.CommittedAt.IsZero() {
		return time.Time{}
	}
	return o.Current.CommittedAt.Add(replaceFloor)
}

// clockTrusted reports whether rekey's clock may retire a login.
func clockTrusted(o Observation) bool {
	return o.ClockKnown && o.ClockOff.Abs() < trustedClock && !recordedInFuture(o)
}

// recordedInFuture reports whether a recorded time is so far ahead that rekey's clock, or the one that recorded it, is wrong.
func recordedInFuture(o Observation) bool {
	return latestRecorded(o).Sub(o.Now) > futureTolerance
}

// latestRecorded returns the latest time recorded for any version.
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

// proofOld reports whether the last proof of the current version is too old.
func proofOld(o Observation) bool {
	at := ProbeAt(o)
	return !at.IsZero() && !o.Now.Before(at)
}
