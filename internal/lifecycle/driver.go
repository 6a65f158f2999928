// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

const (
	// maxSteps bounds the steps of one run. A whole life, from nothing to a retired predecessor, takes fewer.
	maxSteps = 16
	// ConflictWait is the time until the next reconcile after another process wrote first.
	ConflictWait = time.Second
	// DefaultStepTimeout is the timeout of one remote call.
	DefaultStepTimeout = 20 * time.Second
	// withdrawRetry is the longest wait between two attempts to delete an object: a user is waiting for it to be gone.
	withdrawRetry = time.Minute
	// RecheckBroken is the interval at which to check what cannot be watched while it is broken.
	RecheckBroken = 30 * time.Second
	// RecheckHealthy is the same while it is healthy.
	RecheckHealthy = 5 * time.Minute
	// WithdrawPatience is how long a deleted object waits for a remote system that cannot be reached.
	WithdrawPatience = 10 * time.Minute
	// PatientReads is how often reading may fail before the failure is reported.
	PatientReads = 3
	// maxBackoff caps a stored wait: a longer one was computed before the clock was set back.
	maxBackoff = time.Hour
)

// StepObserve is the name under which failed reads are counted. The table has no such step.
const StepObserve rotation.Step = "Observe"

// Driver drives credentials of every kind: it observes, asks the planner, performs one step, and observes again.
type Driver struct {
	// Clock is the wall clock.
	Clock clock.PassiveClock
	// Skew returns how far the API server's clock is ahead of this one; known is false if it has not been seen yet.
	Skew func() (off time.Duration, known bool)
	// Attempts is the memory of this process.
	Attempts *Attempts
	// StepTimeout is the timeout of one remote call, shorter than the reconcile's, so that a hung server leaves time to report.
	StepTimeout time.Duration
	// Next is the planner; nil means rotation.Next.
	Next func(rotation.Observation) rotation.Decision
}

// run is one call of Drive.
type run struct {
	*Driver
	Credential
	entry    entry
	snapshot secretstore.Snapshot
	out      Outcome
	// disowned is true if a deleted object's ledger is a copy, so that there is no snapshot to rely on.
	disowned bool
}

// Drive takes the credential as far as it can go now.
func (d *Driver) Drive(ctx context.Context, s Credential) Outcome {
	r := &run{Driver: d, Credential: s}
	r.entry = d.Attempts.openEntry(s.UID, inputsOf(s.InputHash, s.Fingerprint, s.Rotate, s.RetirePrevious), r.now())
	r.entry.forEndpoint(s.Endpoint)
	if s.Deleting && r.entry.deletingSince.IsZero() {
		r.entry.deletingSince = r.now()
	}
	r.loop(ctx)
	r.out.Refusal, r.out.Snapshot, r.out.PreviousRefused = r.entry.refusal, r.snapshot, r.previousRefused()
	if r.snapshot.Ledger.Pending == nil {
		r.entry.candidate = candidate{}
	}
	if r.out.Withdrawn {
		d.Attempts.Forget(s.UID)
	} else {
		d.Attempts.keepEntry(s.UID, r.entry)
	}
	return r.out
}

func (r *run) loop(ctx context.Context) {
	snapshot, err := r.Store.Load(ctx)
	if err != nil {
		r.handleUnreadable(ctx, err)
		return
	}
	r.snapshot = snapshot
	r.entry.clearFailure(StepObserve)
	done := map[situation]bool{}
	for range maxSteps {
		r.decide()
		step := r.out.Decision.Step
		if step == rotation.StepNone {
			r.countSessions(ctx)
			r.reportContention()
			r.out.Decision.WakeAt = earlier(r.out.Decision.WakeAt, r.recordsDueAt())
			return
		}
		if r.isWaiting(step) || r.isWaiting(r.out.Decision.For) || r.mustWaitToPropose(step) {
			r.recordRequestEarly(ctx)
			return
		}
		here := r.situation(step)
		if done[here] {
			r.endWithFailure(step, fmt.Errorf("performing %s again: it succeeded and changed nothing", step))
			return
		}
		done[here] = true
		if err := r.perform(ctx, step); err != nil {
			r.endWithFailure(step, err)
			r.recordRequestEarly(ctx)
			return
		}
		r.entry.clearFailure(step)
		r.out.Performed = append(r.out.Performed, step)
		if r.out.Withdrawn {
			return
		}
	}
	// Hitting the bound is not an error; the next reconcile continues.
	r.out.NextAttempt = r.now().Add(ConflictWait)
}

// decide observes and asks the planner.
func (r *run) decide() {
	o := r.observe()
	if o.Current != nil {
		r.entry.forBaseVersion(o.Current.Seq)
	}
	next := r.Next
	if next == nil {
		next = rotation.Next
	}
	r.out.Observation, r.out.Decision, r.out.Health = o, next(o), rotation.HealthOf(o)
}

func (r *run) observe() rotation.Observation {
	l := r.snapshot.Ledger
	o := rotation.Observation{
		Now: r.now(), UID: r.UID, FirstSeen: r.entry.firstSeen, Policy: r.Policy, Traits: r.Traits,
		SourceClosed: r.Source == nil, Fingerprint: r.Fingerprint,
		Pending: version(l.Pending), Current: version(l.Current), Previous: version(l.Previous), LastSeq: l.LastSeq,
		Target: r.targetState(), Proof: r.entry.proof, Marker: r.entry.marker,
		Rotate: requestState(r.Rotate, l.Rotate), RetirePrevious: requestState(r.RetirePrevious, l.RetirePrevious),
		TakeOver:      handoverState(r.Former, r.snapshot),
		Preconditions: r.Preconditions, Deleting: r.Deleting, Suspended: r.Suspended,
	}
	off, known := r.Skew()
	o.ClockOff, o.ClockKnown = off.Abs(), known
	if o.Target == rotation.TargetForeign {
		conflict := rotation.Unmet{Reason: string(fault.SecretConflict), Message: r.snapshot.Conflict, Permanent: true}
		o.Preconditions = append([]rotation.Unmet{conflict}, o.Preconditions...)
	} else if r.snapshot.Immutable != "" {
		// Known before a version is created, since it could not be published.
		held := rotation.Unmet{Reason: string(fault.SecretConflict), Message: r.snapshot.Immutable, Permanent: true}
		o.Preconditions = append([]rotation.Unmet{held}, o.Preconditions...)
	}
	if o.Pending != nil {
		if c := r.entry.candidateFor(o.Pending.Seq); c.answer == credential.Accepted || c.rejections >= finalRejections {
			o.PendingAnswer = c.answer
		}
	}
	return o
}

func version(r *secretstore.Record) *rotation.Version {
	if r == nil {
		return nil
	}
	v := r.Version
	return &v
}

// requestState merges an annotation with what is recorded: the annotation may have vanished since.
func requestState(annotation string, t secretstore.Tokens) rotation.Request {
	token := annotation
	if token == "" {
		token = t.Seen
	}
	return rotation.Request{Token: token, Recorded: token == t.Seen, Honored: token == t.Honored}
}

// situation is the state in which a step was chosen. The same step in the same situation would do the same again.
type situation struct {
	step                       rotation.Step
	pending, current, previous rotation.Version
	lastSeq                    int64
	target                     rotation.TargetState
	proof                      rotation.Proof
	marker                     rotation.Marker
	rotate, retirePrevious     rotation.Request
	takeOver                   rotation.Handover
}

func (r *run) situation(step rotation.Step) situation {
	o := r.out.Observation
	return situation{step: step, lastSeq: o.LastSeq, target: o.Target, proof: o.Proof, marker: o.Marker,
		pending: deref(o.Pending), current: deref(o.Current), previous: deref(o.Previous),
		rotate: o.Rotate, retirePrevious: o.RetirePrevious, takeOver: o.TakeOver}
}

func deref(v *rotation.Version) rotation.Version {
	if v == nil {
		return rotation.Version{}
	}
	return *v
}

// isWaiting reports whether the step failed before and is not to be retried yet; the outcome then holds that failure.
func (r *run) isWaiting(step rotation.Step) bool {
	a, failed := r.entry.attempts[step]
	wait := a.next.Sub(r.now())
	if !failed || wait <= 0 || wait > maxBackoff {
		return false
	}
	r.out.Err, r.out.FailedStep, r.out.NextAttempt, r.out.Failures = a.err, step, a.next, a.count
	return true
}

// mustWaitToPropose reports whether a new candidate has to wait because the last one could not be staged, verified or published: a
// source that is not Durable keeps its candidate in memory only, and another candidate would only fail in the same way.
func (r *run) mustWaitToPropose(step rotation.Step) bool {
	return step == rotation.StepPropose && !r.Traits.Durable &&
		(r.isWaiting(rotation.StepCommit) || r.isWaiting(rotation.StepVerify) || r.isWaiting(rotation.StepStage))
}

// endWithFailure ends the run. Nothing is undone, and no candidate is dropped. What the failed step learned about the current version
// is part of the outcome.
func (r *run) endWithFailure(step rotation.Step, err error) {
	if !r.out.Observation.Now.IsZero() {
		r.out.Observation.Proof = r.entry.proof
	}
	if IsConflict(err) {
		r.out.Conflict, r.out.NextAttempt = true, r.now().Add(ConflictWait)
		return
	}
	a := r.entry.recordFailure(step, err, func(count int) time.Time {
		refused := r.entry.candidate.rejections >= finalRejections && (step == rotation.StepStage || step == rotation.StepVerify)
		if refused && rotation.Disposable(r.Traits) {
			count = 1 // the candidate is given up: what comes next is not the same step again
		}
		wait := rotation.Backoff(count, rotation.UrgencyOf(r.out.Observation))
		if after := fault.RetryAfter(err); after > 0 {
			wait = min(after, maxBackoff)
		}
		if r.Deleting {
			wait = min(wait, withdrawRetry)
		}
		switch {
		case step == rotation.StepCommit && !r.Traits.Durable:
			// The next attempt creates a new key: it waits as long as after a success.
			wait = max(wait, issueFloor)
		case step == rotation.StepPropose:
			wait = max(wait, r.issueWait(r.now()))
		}
		return r.now().Add(wait)
	})
	r.out.Err, r.out.FailedStep, r.out.NextAttempt, r.out.Tried, r.out.Failures = err, step, a.next, true, a.count
}

// applyWrite keeps the snapshot that the store returned, and marks a refused compare-and-swap.
func (r *run) applyWrite(snapshot secretstore.Snapshot, err error) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return Conflict(err)
	case err != nil:
		return err
	}
	r.snapshot = snapshot
	return nil
}

// countSessions asks who still uses the previous version. A failure to count is ignored.
func (r *run) countSessions(ctx context.Context) {
	counter, ok := credential.As[credential.SessionCounter](r.Source)
	previous := r.snapshot.Ledger.Previous
	if !ok || previous == nil {
		return
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	if sessions, err := counter.Sessions(ctx, r.ref(previous.Version)); err == nil {
		r.out.Sessions = &sessions
	}
}

func (r *run) now() time.Time { return r.Clock.Now().UTC() }

func (r *run) ref(v rotation.Version) credential.Ref {
	ref := r.Ref
	ref.Seq, ref.Slot = v.Seq, v.Slot
	return ref
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
