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
	// maxSteps of one pass. A whole life, from nothing to a retired predecessor, is shorter.
	maxSteps = 16
	// ConflictWait is when to look again after somebody else wrote first.
	ConflictWait = time.Second
	// DefaultStepTimeout of one remote call.
	DefaultStepTimeout = 20 * time.Second
	// withdrawRetry is the longest wait while an object is being deleted: somebody waits for it to be gone.
	withdrawRetry = time.Minute
	// LookAgainBroken and LookAgainHealthy are when to look again at what cannot be watched: soon while it is broken, now and then
	// while it is not.
	LookAgainBroken  = 30 * time.Second
	LookAgainHealthy = 5 * time.Minute
	// WithdrawPatience is how long a deleted object waits for a remote end that cannot be reached.
	WithdrawPatience = 10 * time.Minute
	// PatientReads is how often reading may fail before people are told.
	PatientReads = 3
	// maxBackoff that is believed: a wait that is longer was reckoned with a clock that has gone back since.
	maxBackoff = time.Hour
)

// StepObserve is the name under which failing reads are counted. It is no step of the table.
const StepObserve rotation.Step = "Observe"

// Driver drives credentials of every kind: it observes, asks the planner, performs one step, and looks again.
type Driver struct {
	// Clock is the wall clock.
	Clock clock.PassiveClock
	// Skew reads how far the API server's clock is ahead of this one; known is false where that was not seen yet.
	Skew func() (off time.Duration, known bool)
	// Memory of this process.
	Memory *Memory
	// StepTimeout of one remote call, shorter than the reconcile's, so that a hung server leaves time to report.
	StepTimeout time.Duration
	// Next is the planner; nil for rotation.Next.
	Next func(rotation.Observation) rotation.Decision
}

// pass is one run of Drive.
type pass struct {
	*Driver
	Credential
	memo     memo
	snapshot secretstore.Snapshot
	out      Outcome
	// disowned is true where a deleted object's ledger is a copy, and there is no snapshot to go by.
	disowned bool
}

// Drive takes the credential as far as it can go now.
func (r *Driver) Drive(ctx context.Context, s Credential) Outcome {
	p := &pass{Driver: r, Credential: s}
	p.memo = r.Memory.open(s.UID, inputsOf(s.InputHash, s.Fingerprint, s.Rotate, s.RetirePrevious), p.now())
	p.memo.at(s.Endpoint)
	if s.Deleting && p.memo.withdrawing.IsZero() {
		p.memo.withdrawing = p.now()
	}
	p.run(ctx)
	p.out.Refusal, p.out.Snapshot, p.out.PreviousRefused = p.memo.refusal, p.snapshot, p.previousRefused()
	if p.snapshot.Ledger.Pending == nil {
		p.memo.candidate = candidate{}
	}
	if p.out.Withdrawn {
		r.Memory.Forget(s.UID)
	} else {
		r.Memory.keep(s.UID, p.memo)
	}
	return p.out
}

func (p *pass) run(ctx context.Context) {
	snapshot, err := p.Store.Load(ctx)
	if err != nil {
		p.unreadable(ctx, err)
		return
	}
	p.snapshot = snapshot
	p.memo.worked(StepObserve)
	done := map[situation]bool{}
	for range maxSteps {
		p.decide()
		step := p.out.Decision.Step
		if step == rotation.StepNone {
			p.count(ctx)
			p.stillFighting()
			p.out.Decision.WakeAt = earlier(p.out.Decision.WakeAt, p.recordsAt())
			return
		}
		if p.waiting(step) || p.waiting(p.out.Decision.For) || p.waitingForMore(step) {
			p.keepRequest(ctx)
			return
		}
		here := p.situation(step)
		if done[here] {
			p.fail(step, fmt.Errorf("performing %s once more: it succeeded and changed nothing", step))
			return
		}
		done[here] = true
		if err := p.perform(ctx, step); err != nil {
			p.fail(step, err)
			p.keepRequest(ctx)
			return
		}
		p.memo.worked(step)
		p.out.Performed = append(p.out.Performed, step)
		if p.out.Withdrawn {
			return
		}
	}
	// Nothing is wrong with a long way; the next pass goes on.
	p.out.NextAttempt = p.now().Add(ConflictWait)
}

// decide observes and asks the planner.
func (p *pass) decide() {
	o := p.observe()
	if o.Current != nil {
		p.memo.away(o.Current.Seq)
	}
	next := p.Next
	if next == nil {
		next = rotation.Next
	}
	p.out.Observation, p.out.Decision, p.out.Health = o, next(o), rotation.HealthOf(o)
}

func (p *pass) observe() rotation.Observation {
	l := p.snapshot.Ledger
	o := rotation.Observation{
		Now: p.now(), UID: p.UID, FirstSeen: p.memo.firstSeen, Policy: p.Policy, Traits: p.Traits, Fingerprint: p.Fingerprint,
		Pending: version(l.Pending), Current: version(l.Current), Previous: version(l.Previous), LastSeq: l.LastSeq,
		Target: p.target(), Proof: p.memo.proof, Marker: p.memo.mark,
		Rotate: request(p.Rotate, l.Rotate), RetirePrevious: request(p.RetirePrevious, l.RetirePrevious),
		TakeOver:      handover(p.Former, p.snapshot),
		Preconditions: p.Preconditions, Deleting: p.Deleting, Suspended: p.Suspended,
	}
	off, known := p.Skew()
	o.ClockOff, o.ClockKnown = off.Abs(), known
	if o.Target == rotation.TargetForeign {
		conflict := rotation.Unmet{Reason: string(fault.SecretConflict), Message: p.snapshot.Conflict, Permanent: true}
		o.Preconditions = append([]rotation.Unmet{conflict}, o.Preconditions...)
	} else if p.snapshot.Immutable != "" {
		// Known before a version is made that could not be published.
		held := rotation.Unmet{Reason: string(fault.SecretConflict), Message: p.snapshot.Immutable, Permanent: true}
		o.Preconditions = append([]rotation.Unmet{held}, o.Preconditions...)
	}
	if o.Pending != nil {
		if c := p.memo.about(o.Pending.Seq); c.answer == credential.Accepted || c.rejections >= finalRejections {
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

// request merges an annotation with what is written down: the annotation may have vanished since.
func request(annotation string, t secretstore.Tokens) rotation.Request {
	token := annotation
	if token == "" {
		token = t.Seen
	}
	return rotation.Request{Token: token, Recorded: token == t.Seen, Honoured: token == t.Honoured}
}

// situation is what a step was chosen in. The same step in the same situation would do the same again.
type situation struct {
	step                       rotation.Step
	pending, current, previous rotation.Version
	lastSeq                    int64
	target                     rotation.TargetState
	proof                      rotation.Proof
	mark                       rotation.Mark
	rotate, retirePrevious     rotation.Request
	takeOver                   rotation.Handover
}

func (p *pass) situation(step rotation.Step) situation {
	o := p.out.Observation
	return situation{step: step, lastSeq: o.LastSeq, target: o.Target, proof: o.Proof, mark: o.Marker,
		pending: deref(o.Pending), current: deref(o.Current), previous: deref(o.Previous),
		rotate: o.Rotate, retirePrevious: o.RetirePrevious, takeOver: o.TakeOver}
}

func deref(v *rotation.Version) rotation.Version {
	if v == nil {
		return rotation.Version{}
	}
	return *v
}

// waiting tells whether the step failed before and is to be left alone for a while; then the pass reports that failure.
func (p *pass) waiting(step rotation.Step) bool {
	a, failed := p.memo.attempts[step]
	wait := a.next.Sub(p.now())
	if !failed || wait <= 0 || wait > maxBackoff {
		return false
	}
	p.out.Err, p.out.FailedStep, p.out.NextAttempt, p.out.Failures = a.err, step, a.next, a.count
	return true
}

// waitingForMore is for a source whose candidate is nowhere but in this pass: one that could not be staged, verified
// or published is gone with it, and making another would only meet the same again.
func (p *pass) waitingForMore(step rotation.Step) bool {
	return step == rotation.StepPropose && !p.Traits.Remote &&
		(p.waiting(rotation.StepCommit) || p.waiting(rotation.StepVerify) || p.waiting(rotation.StepStage))
}

// fail ends the pass. Nothing is undone and no candidate is thrown away. What the failed step heard of the current version is
// part of what the pass found.
func (p *pass) fail(step rotation.Step, err error) {
	if !p.out.Observation.Now.IsZero() {
		p.out.Observation.Proof = p.memo.proof
	}
	if IsConflict(err) {
		p.out.Conflict, p.out.NextAttempt = true, p.now().Add(ConflictWait)
		return
	}
	a := p.memo.failed(step, err, func(count int) time.Time {
		wait := rotation.Backoff(count, rotation.UrgencyOf(p.out.Observation))
		if after := fault.RetryAfter(err); after > 0 {
			wait = min(after, maxBackoff)
		}
		if p.Deleting {
			wait = min(wait, withdrawRetry)
		}
		switch {
		case step == rotation.StepCommit && !p.Traits.Remote:
			// The next attempt makes a new key: no sooner than one that succeeded would.
			wait = max(wait, issueFloor)
		case step == rotation.StepPropose:
			wait = max(wait, p.untilIssue(p.now()))
		}
		return p.now().Add(wait)
	})
	p.out.Err, p.out.FailedStep, p.out.NextAttempt, p.out.Tried, p.out.Failures = err, step, a.next, true, a.count
}

// written takes over what the store gave back, and marks a refused compare-and-swap.
func (p *pass) written(snapshot secretstore.Snapshot, err error) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return Conflict(err)
	case err != nil:
		return err
	}
	p.snapshot = snapshot
	return nil
}

// count asks who still uses the previous version. Not being told is no trouble.
func (p *pass) count(ctx context.Context) {
	counter, ok := p.Source.(credential.Counter)
	previous := p.snapshot.Ledger.Previous
	if !ok || previous == nil {
		return
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	if sessions, err := counter.Sessions(ctx, p.ref(previous.Version)); err == nil {
		p.out.Sessions = &sessions
	}
}

func (p *pass) now() time.Time { return p.Clock.Now().UTC() }

func (p *pass) ref(v rotation.Version) credential.Ref {
	ref := p.Ref
	ref.Seq, ref.Slot = v.Seq, v.Slot
	return ref
}

// earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
