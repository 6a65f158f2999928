// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import "time"

const (
	backoffFirst = time.Second
	// backoffMost is the longest wait if no deadline is known or it is near; backoffLazy if it is days away.
	backoffMost = 10 * time.Minute
	backoffLazy = time.Hour
	// backoffUrgent is the longest wait if nothing valid is published.
	backoffUrgent = 5 * time.Minute
	// attemptsLeft is how many attempts should fit into the time before the deadline, as long as waits are a second or more.
	attemptsLeft = 10
	// lazyAttempts is how many attempts should fit if the waits are hourly.
	lazyAttempts = 50
	// refusalFirst is the wait after a first refused candidate, and refusalMost the longest one.
	refusalFirst = time.Minute
	refusalMost  = time.Hour
)

// Urgency is how much time a failing step has.
type Urgency struct {
	// Left is the time before the deadline of what is published; 0 or less when it has passed. Read only if Deadline is true.
	Left time.Duration
	// Deadline is true if there is one.
	Deadline bool
	// Published is true if anything is published.
	Published bool
}

// UrgencyOf returns the urgency of an observation.
func UrgencyOf(o Observation) Urgency {
	at := deadline(o)
	return Urgency{Left: at.Sub(o.Now), Deadline: !at.IsZero(), Published: o.Current != nil}
}

// Backoff returns the wait after the given number of failed attempts (from 1): it doubles from a second up to a bound, and
// shrinks again toward the deadline, so that enough attempts fit before it.
func Backoff(attempts int, u Urgency) time.Duration {
	wait := backoffFirst << min(max(attempts-1, 0), 20)
	switch {
	case !u.Published, u.Deadline && u.Left <= 0:
		return min(wait, backoffUrgent)
	case !u.Deadline:
		return min(wait, backoffMost)
	}
	most := min(max(u.Left/lazyAttempts, backoffMost), backoffLazy)
	return max(min(wait, most, u.Left/attemptsLeft), backoffFirst)
}

// RefusalBackoff returns the wait after the given number of refused candidates in a row (from 1) if the next one costs a request: it
// doubles from a minute up to an hour, and shrinks again toward the deadline, but never below a minute.
func RefusalBackoff(refused int, u Urgency) time.Duration {
	wait := min(refusalFirst<<min(max(refused-1, 0), 20), refusalMost)
	if !u.Deadline || u.Left <= 0 {
		return wait
	}
	return max(min(wait, u.Left/attemptsLeft), refusalFirst)
}
