// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// waits is a trouble that goes on: its reason, and the inputs that it came up with.
type stuckSince struct {
	reason string
	inputs inputs
	since  time.Time
}

// pace is when to look again at what cannot be watched: soon where the trouble is new, ever less often while it goes on, so
// that a thousand objects which wait for something that never comes cost next to nothing.
func (m *Attempts) Pace(uid, reason string, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.byUID[uid]
	if !ok {
		return LookAgainBroken
	}
	if known.transientState == nil {
		known.transientState = &transientState{}
	}
	age := now.Sub(known.stuckSince.since)
	if known.stuckSince.reason != reason || known.stuckSince.inputs != known.inputs || age < 0 {
		known.stuckSince, age = stuckSince{reason: reason, inputs: known.inputs, since: now}, 0
		m.byUID[uid] = known
	}
	return min(max(age/4, LookAgainBroken), LookAgainHealthy)
}

// heals counts how often the user's Secret was written again, each time soon after the time before.
type rewrites struct {
	count int
	last  time.Time
}

const (
	// freeHeals are done at once: a person may edit twice.
	freeRewrites = 3
	// mostHeal is the longest wait before a Secret is healed once more.
	maxRewriteWait = 10 * time.Minute
)

// next is when the Secret may be written again.
func (h rewrites) nextAllowed() time.Time {
	if h.count < freeRewrites {
		return h.last
	}
	return h.last.Add(min(time.Second<<min(h.count-freeRewrites, 20), maxRewriteWait))
}

// calm is when the fight counts as over.
func (h rewrites) settledAt() time.Time {
	return h.nextAllowed().Add(h.nextAllowed().Sub(h.last) + 2*contendedIssueFloor)
}

// at forgets a fight that is over, or that a clock has run away from.
func (h rewrites) asOf(now time.Time) rewrites {
	if h.last.Sub(now) > 0 || !now.Before(h.settledAt()) {
		return rewrites{}
	}
	return h
}

// again counts a version that is written once more, and holds it back where somebody else changes it each time: two who
// write the same object as fast as they can take an API server down.
func (r *run) noteRewrite() error {
	now, current := r.now(), r.snapshot.Ledger.Current
	if current.PublishedAt.IsZero() {
		return nil
	}
	h := r.entry.rewrites.asOf(now)
	if h.count >= freeRewrites && now.Before(h.nextAllowed()) {
		return r.contended()
	}
	r.entry.rewrites = rewrites{count: h.count + 1, last: now}
	return nil
}

// fight tells of somebody who changes the user's Secret again and again; nil where nobody does.
func (r *run) contended() error {
	h := r.entry.rewrites.asOf(r.now())
	if h.count < freeRewrites {
		return nil
	}
	until := "rekey writes it less and less often"
	if !r.Traits.Remote {
		until = "a new certificate is issued each time that the one in it is gone or damaged"
	}
	return fault.Blocked(fault.SecretConflict, errors.New("another controller or a user changes the Secret each time that rekey writes it: "+
		"find out who, with `kubectl get secret -o yaml --show-managed-fields`. Until that ends, "+until))
}

// untilIssue is how long it is until a source without a ledger may make another version; 0 or less where it may.
func (r *run) issueWait(now time.Time) time.Duration {
	floor := r.currentIssueFloor(now)
	wait := floor - now.Sub(r.entry.lastIssued)
	if r.Traits.Remote || r.entry.lastIssued.IsZero() || wait > floor {
		return 0
	}
	return wait
}

func (r *run) currentIssueFloor(now time.Time) time.Duration {
	if r.entry.rewrites.asOf(now).count >= freeRewrites {
		return contendedIssueFloor
	}
	return issueFloor
}

// issuedAgain notes when a certificate was published. Where this process published one before, and it was gone or damaged
// since, another one changes the Secret, which is told as for a Secret that only had to be written again.
func (r *run) noteIssue(now time.Time) {
	if r.out.Observation.Current == nil && !r.entry.lastIssued.IsZero() {
		r.entry.rewrites = rewrites{count: r.entry.rewrites.asOf(now).count + 1, last: now}
	}
	r.entry.lastIssued = now
}

// stillFighting reports a fight over the Secret until it is over, so that what is reported does not change with each turn.
func (r *run) reportContention() {
	if err := r.contended(); err != nil && r.out.Decision.Unmet == nil {
		r.out.Err, r.out.FailedStep, r.out.NextAttempt = err, rotation.StepPublish, r.entry.rewrites.settledAt()
	}
}

// target is what the user's Secret shows. One that lacks only what an earlier release did not record counts as current until
// recordsAt: an upgrade writes every Secret once, and not all of them in one minute.
func (r *run) targetState() rotation.TargetState {
	if r.recordsDueAt().After(r.now()) {
		return rotation.TargetShowsCurrent
	}
	return r.snapshot.Target
}

// recordsAt is when what an earlier release did not record is added to the user's Secret and the ledger; zero where nothing
// is missing.
func (r *run) recordsDueAt() time.Time {
	if !r.snapshot.LacksRecords {
		return time.Time{}
	}
	return rotation.SpreadFrom(r.entry.firstSeen, r.UID)
}

func (r *run) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.stepTimeout())
}

func (r *run) stepTimeout() time.Duration {
	if r.StepTimeout <= 0 {
		return DefaultStepTimeout
	}
	return r.StepTimeout
}
