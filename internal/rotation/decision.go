// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// The reasons of decisions that are no trouble. Those that are carry a word of package fault.
const (
	ReasonDeleting        = "Deleting"
	ReasonSecretMissing   = "SecretMissing"
	ReasonSecretDiffers   = "SecretDiffers"
	ReasonPublished       = "Published"
	ReasonRequested       = "RequestSeen"
	ReasonHandedOver      = "HandedOver"
	ReasonSuspended       = "Suspended"
	ReasonRestored        = "Restored"
	ReasonOverlapEnded    = "OverlapEnded"
	ReasonRetireRequested = "RetireRequested"
	ReasonOverlap         = "Overlap"
	ReasonSpecChanged     = "SpecChanged"
	ReasonCandidate       = "Candidate"
	ReasonMissing         = "Missing"
	ReasonRotateRequested = "RotateRequested"
	ReasonDue             = "Due"
	ReasonProofOld        = "ProofOld"
	ReasonNothingDue      = "NothingDue"
)

// Words of package fault, which this package does not import; a test holds them equal.
const (
	reasonSecretConflict     = "SecretConflict"
	reasonLedgerInvalid      = "LedgerInvalid"
	reasonCandidateRejected  = "CandidateRejected"
	reasonCredentialRejected = "CredentialRejected"
	reasonClockSkew          = "ClockSkew"
	reasonFenced             = "Fenced"
)

// maxSleep is how long nobody looks at the wall clock at the most: timers stand still while a machine sleeps.
const maxSleep = time.Hour

// Decision is what to do now, why, and when to look again if nothing else happens.
type Decision struct {
	// Step to perform; StepNone for nothing.
	Step Step
	// For is the step that a Probe prepares, and with which it waits where that one failed; StepNone where it is made for
	// its own sake.
	For Step
	// Row of the table that decided.
	Row string
	// Reason in one CamelCase word.
	Reason string
	// Message is a plain sentence with absolute times: what is done, or what it waits for and until when.
	Message string
	// Unmet is the precondition or the trouble that holds the credential up; nil where nothing does.
	Unmet *Unmet
	// WakeAt is when to look again: never later than the next expiry level and than in an hour, always after Now.
	WakeAt time.Time
}

func do(step Step, reason, format string, args ...any) Decision {
	return Decision{Step: step, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// prepare proves the current version before a step that takes something away.
func prepare(step Step, reason, format string, args ...any) Decision {
	d := do(StepProbe, reason, format, args...)
	d.For = step
	return d
}

// wait until at (zero: nothing of its own to wait for).
func wait(at time.Time, reason, format string, args ...any) Decision {
	d := do(StepNone, reason, format, args...)
	d.WakeAt = at
	return d
}

// held waits for somebody to act.
func held(at time.Time, u Unmet) Decision {
	return Decision{Step: StepNone, Reason: u.Reason, Message: u.Message, Unmet: &u, WakeAt: at}
}

// wakeAt is the minimum of the row's own time and of everything that happens by the clock alone.
func wakeAt(o Observation, own time.Time) time.Time {
	at := o.Now.Add(maxSleep)
	for _, t := range []time.Time{own, HealthOf(o).NextLevelAt, RetireAt(o)} {
		if t.After(o.Now) && t.Before(at) {
			at = t
		}
	}
	return at
}

// stamp shows an instant to people: absolute, UTC (RFC 3339).
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// What the rows ask of an observation.

func pendingAt(o Observation, stages ...Stage) bool {
	return o.Pending != nil && slices.Contains(stages, o.Pending.Stage)
}

// unwritten tells whether a request must be written down. Where a ledger is kept, that is at first sight. Where the
// user's Secret is all there is, a request is written down together with the new version, unless that has to wait.
func unwritten(o Observation) bool {
	waiting := o.Suspended || len(o.Preconditions) > 0
	switch {
	case lapsed(o):
		return true
	case o.Current == nil && o.Pending == nil:
		return false // the first version honours whatever was asked for
	case o.Traits.Remote:
		return fresh(o.Rotate) || fresh(o.RetirePrevious)
	}
	return waiting && fresh(o.Rotate)
}

// Unrecorded reports whether a request is not recorded although there is a place to record it in. It is for a pass whose step
// failed: the annotation may be gone by the time that step succeeds.
func Unrecorded(o Observation) bool {
	if o.Deleting || o.TakeOver.Inherited || o.Current == nil && (o.Pending == nil || !o.Traits.Remote) {
		return false
	}
	return fresh(o.Rotate) || o.Traits.Remote && fresh(o.RetirePrevious)
}

// handed reports whether a former owner is named from which nothing was taken over yet.
func handed(o Observation) bool {
	return o.Traits.Remote && o.TakeOver.From != "" && o.TakeOver.HonouredAt.IsZero()
}

// lapsed reports whether a former owner is written down although the annotation was removed: set again, it is another request.
func lapsed(o Observation) bool { return o.Traits.Remote && o.TakeOver.Lapsed && !o.TakeOver.Inherited }

// brake returns the unmet precondition that stops everything, as if rotation were suspended; nil where there is none.
func brake(o Observation) *Unmet {
	for i := range o.Preconditions {
		if o.Preconditions[i].Brake {
			return &o.Preconditions[i]
		}
	}
	return nil
}

func fresh(r Request) bool { return r.Token != "" && !r.Recorded }

func open(r Request) bool { return r.Token != "" && !r.Honoured }

// unpublished tells whether the user's Secret, or the record of when it was written, is behind the ledger.
func unpublished(o Observation) bool {
	if o.Current == nil {
		return false
	}
	switch o.Target {
	case TargetDiffers, TargetMissing:
		return true
	case TargetShowsCurrent:
		return o.Current.PublishedAt.IsZero()
	case TargetForeign:
	}
	return false
}

// proven tells whether the current version was accepted by the pass that is looking now.
func proven(o Observation) bool {
	p := o.Proof
	return o.Current != nil && p.Seq == o.Current.Seq && p.InThisPass && p.Answer == credential.Accepted
}

// rejected counts the rejections in a row of the current version.
func rejected(o Observation) int {
	if o.Current == nil || o.Proof.Seq != o.Current.Seq || o.Proof.Answer != credential.Rejected {
		return 0
	}
	return max(o.Proof.Rejections, 1)
}

// canProve tells whether the current version may be asked about now: not again and again after it was rejected.
func canProve(o Observation) bool {
	return o.Current != nil && (rejected(o) == 0 || !o.Now.Before(ProbeAt(o)))
}

// overlapOver tells whether the previous version may go: by the clock, or because a person said so.
func overlapOver(o Observation) bool {
	at := RetireAt(o)
	if at.IsZero() || o.Target != TargetShowsCurrent {
		return false
	}
	return open(o.RetirePrevious) || (clockTrusted(o) && !o.Now.Before(at))
}

// unfit tells whether the pending version will never be published.
func unfit(o Observation) bool {
	return pendingAt(o, Proposed, Staged, Verified) &&
		(o.Pending.Fingerprint != o.Fingerprint || o.PendingAnswer == credential.Rejected)
}

// markedAbove tells whether the remote end knows a newer version of ours than the ledger does.
func markedAbove(o Observation) bool {
	return o.Marker.State == MarkerOurs && o.Marker.Seq > o.Current.Seq
}

// ours tells whether the login may be set again: it carries our mark, or it lost the mark or itself, and the ledger says
// that we made it.
func ours(o Observation) bool {
	switch o.Marker.State {
	case MarkerOurs:
		return o.Marker.Seq <= o.Current.Seq
	case MarkerMissing, MarkerAbsent:
		return true
	case MarkerForeign, MarkerUnread:
	}
	return false
}

// cause of a rotation; empty for none.
func cause(o Observation) string {
	due := Due(o)
	switch {
	case o.Current == nil:
		return ""
	case o.Current.Fingerprint != o.Fingerprint:
		return ReasonSpecChanged
	case open(o.Rotate):
		return ReasonRotateRequested
	case !due.IsZero() && !o.Now.Before(due) && !recordedInFuture(o):
		return ReasonDue
	case NotYetValid(o):
		return ReasonDue
	}
	return ""
}

// NotYetValid tells whether C is a certificate that was issued while the clock was ahead: by a clock that agrees with that
// of the API server nobody accepts it yet. Another one hurts nobody, and heals it.
func NotYetValid(o Observation) bool {
	return o.Current != nil && !o.Traits.Remote && !o.Current.NotAfter.IsZero() && o.Current.CommittedAt.Sub(o.Now) > futureTolerance &&
		o.ClockKnown && o.ClockOff.Abs() < trustedClock
}
