// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// stuckSince is a lasting problem: its reason, the inputs with which it occurred, and when.
type stuckSince struct {
	reason string
	inputs inputs
	since  time.Time
}

// Pace returns the time until the next check of what cannot be watched: short while the problem is new, and longer the longer it
// lasts, so that a thousand objects that wait forever cost next to nothing.
func (a *Attempts) Pace(uid, reason string, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byUID[uid]
	if !ok {
		return RecheckBroken
	}
	if known.transientState == nil {
		known.transientState = &transientState{}
	}
	age := now.Sub(known.stuckSince.since)
	if known.stuckSince.reason != reason || known.stuckSince.inputs != known.inputs || age < 0 {
		known.stuckSince, age = stuckSince{reason: reason, inputs: known.inputs, since: now}, 0
		a.byUID[uid] = known
	}
	return min(max(age/4, RecheckBroken), RecheckHealthy)
}

// rewrites counts how often the user's Secret was rewritten, each time soon after the last.
type rewrites struct {
	count int
	last  time.Time
}

const (
	// freeRewrites need no wait: a user may edit a Secret twice.
	freeRewrites = 3
	// maxRewriteWait is the longest wait before a Secret is rewritten.
	maxRewriteWait = 10 * time.Minute
)

// nextAllowed returns when the Secret may be written again.
func (w rewrites) nextAllowed() time.Time {
	if w.count < freeRewrites {
		return w.last
	}
	return w.last.Add(min(time.Second<<min(w.count-freeRewrites, 20), maxRewriteWait))
}

// settledAt returns when the contention counts as over.
func (w rewrites) settledAt() time.Time {
	return w.nextAllowed().Add(w.nextAllowed().Sub(w.last) + 2*contendedIssueFloor)
}

// asOf returns the rewrites that still count: none if the contention is over, or if the clock was set back since.
func (w rewrites) asOf(now time.Time) rewrites {
	if w.last.Sub(now) > 0 || !now.Before(w.settledAt()) {
		return rewrites{}
	}
	return w
}

// noteRewrite counts a version that is written again, and refuses the write while another writer keeps reverting it: two
// writers that overwrite one object as fast as they can may overload an API server.
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

// contended returns an error if another writer changes the user's Secret again and again.
func (r *run) contended() error {
	h := r.entry.rewrites.asOf(r.now())
	if h.count < freeRewrites {
		return nil
	}
	until := "rekey writes it less and less often"
	if !r.Traits.Revocable {
		until = "a new certificate is issued whenever the one in it is missing or damaged"
	}
	return fault.Blocked(fault.SecretConflict, errors.New("another controller or a user changes the Secret whenever rekey writes it: "+
		"find out who, with `kubectl get secret -o yaml --show-managed-fields`. Until that ends, "+until))
}

// refusals counts, in a row, the candidates that the remote system denied or that could never be published. Each cost a request.
type refusals struct {
	count int
	last  time.Time
	seq   int64
	err   error
}

// noteRefusal counts a candidate that is given up because it was refused, if another one costs a request.
func (r *run) noteRefusal(seq int64, err error) {
	if rotation.Disposable(r.Traits) && r.entry.candidateFor(seq).rejections >= finalRejections {
		r.entry.refusals = refusals{count: r.entry.refusals.count + 1, last: r.now(), seq: seq, err: err}
	}
}

// refusalWait returns the time until another candidate may be created after those that were refused; 0 if it may be now.
func (r *run) refusalWait(now time.Time) time.Duration {
	f := r.entry.refusals
	if f.count == 0 {
		return 0
	}
	return timeLeft(f.last, rotation.RefusalBackoff(f.count, rotation.UrgencyOf(r.out.Observation)), now)
}

// timeLeft returns how much of a time since an instant is left: 0 if it is over, or if the clock was set back since.
func timeLeft(since time.Time, length time.Duration, now time.Time) time.Duration {
	left := length - now.Sub(since)
	if since.IsZero() || left < 0 || left > length {
		return 0
	}
	return left
}

// issueWait returns the time until a source whose versions nothing has to refuse may create another one; 0 if it may now.
func (r *run) issueWait(now time.Time) time.Duration {
	if r.Traits.Revocable {
		return 0
	}
	return max(timeLeft(r.entry.lastIssued, r.currentIssueFloor(now), now), r.refusalWait(now))
}

// mayIssue returns an error while another version may not be created yet.
func (r *run) mayIssue(now time.Time) error {
	wait := r.issueWait(now)
	if wait <= 0 {
		return nil
	}
	if err := r.contended(); err != nil {
		return err
	}
	if refused := r.entry.refusals; r.refusalWait(now) == wait {
		return fault.Permanent(fault.ReasonOf(refused.err, fault.CandidateRejected), fmt.Errorf(
			"version %d was refused at %s, and the next one is created no sooner than %s: %w",
			refused.seq, fault.FormatTime(refused.last), fault.FormatTime(now.Add(wait)), refused.err))
	}
	return fault.Pending(wait, fmt.Errorf("the last certificate was issued at %s; the next one is issued no sooner than %s later",
		fault.FormatTime(r.entry.lastIssued), r.currentIssueFloor(now)))
}

func (r *run) currentIssueFloor(now time.Time) time.Duration {
	if r.entry.rewrites.asOf(now).count >= freeRewrites {
		return contendedIssueFloor
	}
	return issueFloor
}

// noteIssue records when a certificate was published. If this process published one before and it is gone or damaged, another writer
// changed the Secret, which counts like a Secret that had to be written again.
func (r *run) noteIssue(now time.Time) {
	if r.out.Observation.Current == nil && !r.entry.lastIssued.IsZero() {
		r.entry.rewrites = rewrites{count: r.entry.rewrites.asOf(now).count + 1, last: now}
	}
	r.entry.lastIssued = now
}

// reportContention reports contention until it is over, so that the report does not change with each write.
func (r *run) reportContention() {
	if err := r.contended(); err != nil && r.out.Decision.Unmet == nil {
		r.out.Err, r.out.FailedStep, r.out.NextAttempt = err, rotation.StepPublish, r.entry.rewrites.settledAt()
	}
}

// targetState returns what the user's Secret shows. A Secret that lacks only what an earlier release did not record counts as current
// until recordsDueAt: an upgrade writes each Secret once, but not all of them in one minute.
func (r *run) targetState() rotation.TargetState {
	if r.recordsDueAt().After(r.now()) {
		return rotation.TargetShowsCurrent
	}
	return r.snapshot.Target
}

// recordsDueAt returns when to add what an earlier release did not record to the user's Secret and the ledger; zero if nothing is
// missing.
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
