// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
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
	// conflictWait is when to look again after somebody else wrote first.
	conflictWait = time.Second
	// defaultStepTimeout for one remote call.
	defaultStepTimeout = 20 * time.Second
	// withdrawRetry is the longest wait while an object is being deleted: somebody waits for it to be gone.
	withdrawRetry = time.Minute
	// maxBackoff that is believed: a wait that is longer was reckoned with a clock that has gone back since.
	maxBackoff = time.Hour
)

// stepObserve is the name under which failing reads are counted. It is no step of the table.
const stepObserve rotation.Step = "Observe"

// Subject is one credential, resolved: everything that its kind knows and that the drive needs.
type Subject struct {
	// Kind of the object. Ref without Seq and Slot.
	Kind string
	Ref  credential.Ref
	// Former is the owner from which a person lets the object take over, in the form of Ref.Owner; empty for none.
	Former string
	// FormerGone returns an error unless the object that Former names is gone, as far as that can be known: one of another
	// cluster cannot be looked up. It reads live. Nil where there is nothing to look up.
	FormerGone func(ctx context.Context, former string) error
	// UID of the object.
	UID string
	// Policy, resolved; Traits of the source, known even where the source could not be opened.
	Policy rotation.Policy
	Traits credential.Traits
	// Fingerprint of the fields of the spec that demand new material.
	Fingerprint string
	// Store of the versions.
	Store Store
	// Source that makes them come true; nil where it could not be opened, and then SourceErr says why. A step that needs
	// it fails with that error.
	Source    credential.Source
	SourceErr error
	// Propose makes up the material of a new version. It touches nothing outside.
	Propose func(ref credential.Ref) (credential.Material, error)
	// NotAfter reads from staged material when it expires by itself; nil where it does not.
	NotAfter func(credential.Material) (time.Time, error)
	// Preconditions that are known not to hold. A foreign target Secret is added by Drive.
	Preconditions []rotation.Unmet
	// Unowned is why it cannot be told whether the Secrets are the object's or copies of another cluster's; nil where it can.
	// Meanwhile nothing is made or changed, other than by a deletion; what is published stays.
	Unowned error
	// Preflight asks the remote end whether the credential can be served at all, before anything is written down or
	// touched; it is asked only while there is no version. Nil where there is nothing to ask.
	Preflight func(ctx context.Context, ref credential.Ref) error
	// Unchanged looks live whether the object still says what this pass goes by, since a cache may be old; its error ends the
	// pass. It is asked where the store does not rule that out, before words of the object are obeyed that the time alone
	// does not bring about: a first version, a changed spec, a request. Nil where the object cannot have changed.
	Unchanged func(ctx context.Context) error
	// Rotate and RetirePrevious are the values of the annotations.
	Rotate, RetirePrevious string
	// Deleting and Suspended are what the object says. Delete is true where its deletion policy is Delete.
	Deleting, Suspended, Delete bool
	// Served reports whether the status says that a version was published once: then something may be left to remove, also where
	// the ledger is lost.
	Served bool
	// WithdrawDeadline is when a deleted object is released although it could not be cleaned, by the API server's clock.
	WithdrawDeadline time.Time
	// NamespaceEnds looks live whether the object's namespace is being deleted; nil where nobody can tell.
	NamespaceEnds func(ctx context.Context) bool
	// LeaveBehind tells what is left behind, before Release removes the finalizer; nil where there is nobody to tell and nothing
	// to remove.
	LeaveBehind func(ctx context.Context, left Remains) error
	Release     func(ctx context.Context) error
	// Endpoint tells apart where the remote end is: a proof holds for one place.
	Endpoint string
	// InputHash changes with everything that may mend a failing step; then the backoff begins anew.
	InputHash string
}

// Outcome is what a pass found and did. Only report.go turns it into words for people.
type Outcome struct {
	// Observation, Decision and Health are the last ones of the pass; zero where nothing could be read.
	Observation rotation.Observation
	Decision    rotation.Decision
	Health      rotation.Health
	// Performed steps, in order, the failed one not included.
	Performed []rotation.Step
	// Snapshot is the last one read or written.
	Snapshot secretstore.Snapshot
	// Err is why FailedStep failed, in this pass or in an earlier one for which it still waits until NextAttempt.
	Err         error
	FailedStep  rotation.Step
	NextAttempt time.Time
	// Tried is true where Err came up in this pass. Failures counts how often FailedStep has failed in a row.
	Tried    bool
	Failures int
	// Conflict is true where somebody else wrote first. It is no error; NextAttempt is soon.
	Conflict bool
	// Refusal is why the current version was refused last, or cannot do its work; nil where that was not said.
	Refusal error
	// Sessions of the previous version; nil where there is none or the remote end cannot tell.
	Sessions *credential.Sessions
	// PreviousRefused is true where the previous version is refused by now, and the ledger could not be written yet.
	PreviousRefused bool
	// Withdrawn is true where the object may go. LeftBehind is what could not be cleaned, and why; often empty.
	Withdrawn  bool
	LeftBehind string
}

// WakeAt is when to look again if nothing else happens; zero where the object may go.
func (o Outcome) WakeAt() time.Time {
	if o.Withdrawn || (!o.NextAttempt.IsZero() && (o.Decision.WakeAt.IsZero() || o.NextAttempt.Before(o.Decision.WakeAt))) {
		return o.NextAttempt
	}
	return o.Decision.WakeAt
}

// Rotator drives credentials of every kind: it observes, asks the planner, performs one step, and looks again.
type Rotator struct {
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
	*Rotator
	Subject
	memo     memo
	snapshot secretstore.Snapshot
	out      Outcome
	// disowned is true where a deleted object's ledger is a copy, and there is no snapshot to go by.
	disowned bool
}

// Drive takes the credential as far as it can go now.
func (r *Rotator) Drive(ctx context.Context, s Subject) Outcome {
	p := &pass{Rotator: r, Subject: s}
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
	p.memo.worked(stepObserve)
	done := map[situation]bool{}
	for range maxSteps {
		p.decide()
		step := p.out.Decision.Step
		if step == rotation.StepNone {
			p.count(ctx)
			p.stillFighting()
			p.out.Decision.WakeAt = earliestOf(p.out.Decision.WakeAt, p.recordsAt())
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
	p.out.NextAttempt = p.now().Add(conflictWait)
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
	if isConflict(err) {
		p.out.Conflict, p.out.NextAttempt = true, p.now().Add(conflictWait)
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

// isConflict tells whether somebody else wrote first. A remote end's error never counts.
func isConflict(err error) bool {
	var c *conflictError
	return errors.As(err, &c)
}

// conflictError is a refused compare-and-swap.
type conflictError struct{ err error }

func (c *conflictError) Error() string { return c.err.Error() }
func (c *conflictError) Unwrap() error { return c.err }

// written takes over what the store gave back, and marks a refused compare-and-swap.
func (p *pass) written(snapshot secretstore.Snapshot, err error) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return &conflictError{err}
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
