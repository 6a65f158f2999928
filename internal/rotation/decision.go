// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Reasons of decisions that are not problems. The reasons of problems are those of package fault.
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

// Reasons of package fault, which this package does not import; a test keeps them equal.
const (
	reasonSecretConflict     = "SecretConflict"
	reasonLedgerInvalid      = "LedgerInvalid"
	reasonCandidateRejected  = "CandidateRejected"
	reasonCredentialRejected = "CredentialRejected"
	reasonClockSkew          = "ClockSkew"
	reasonFenced             = "Fenced"
)

// progressTime is the age from which a pending version that was neither verified nor refused does not progress.
const progressTime = 10 * time.Minute

// maxSleep is the longest time between two reads of the wall clock: timers stop while a machine sleeps.
const maxSleep = time.Hour

// Decision is what to do now, why, and when to reconcile again if nothing else happens.
type Decision struct {
	// Step is the step to perform; StepNone for nothing.
	Step Step
	// For is the step that a Probe prepares; if that step failed, the Probe waits as long as the step does. It is StepNone
	// for a Probe for its own sake.
	For Step
	// Row is the name of the row that decided.
	Row string
	// Reason is one CamelCase word.
	Reason string
	// Message is a sentence with absolute times: what is being done, or what it waits for and until when.
	Message string
	// Unmet is the precondition or the problem that blocks the credential; nil if nothing does.
	Unmet *Unmet
	// WakeAt is when to reconcile again: at the next expiry level or in an hour at the latest, and always after Now.
	WakeAt time.Time
}

func do(step Step, reason, format string, args ...any) Decision {
	return Decision{Step: step, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// prepare returns a Probe of the current version, before a step that takes something away.
func prepare(step Step, reason, format string, args ...any) Decision {
	d := do(StepProbe, reason, format, args...)
	d.For = step
	return d
}

// wait returns a decision to do nothing until at; zero if the row has no time of its own.
func wait(at time.Time, reason, format string, args ...any) Decision {
	d := do(StepNone, reason, format, args...)
	d.WakeAt = at
	return d
}

// held returns a decision to wait for external action.
func held(at time.Time, u Unmet) Decision {
	return Decision{Step: StepNone, Reason: u.Reason, Message: u.Message, Unmet: &u, WakeAt: at}
}

// wakeAt returns the earliest of the row's own time and everything that happens by the clock alone.
func wakeAt(o Observation, own time.Time) time.Time {
	at := o.Now.Add(maxSleep)
	for _, t := range []time.Time{own, HealthOf(o).NextLevelAt, RetireAt(o), supersededAt(o)} {
		if t.After(o.Now) && t.Before(at) {
			at = t
		}
	}
	return at
}

// stamp formats a time for messages: absolute, UTC (RFC 3339).
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// The rest of this file holds the questions that the rows ask about an observation.

func pendingAt(o Observation, stages ...Stage) bool {
	return o.Pending != nil && slices.Contains(stages, o.Pending.Stage)
}

// unwritten reports whether a request must be recorded now. With a ledger, a request is recorded at first sight. Without one,
// the user's Secret records it together with the new version, unless that version has to wait.
func unwritten(o Observation) bool {
	waiting := o.Suspended || len(o.Preconditions) > 0
	switch {
	case lapsed(o):
		return true
	case o.Current == nil && o.Pending == nil:
		return false // the first version honors every request
	case o.Traits.Durable:
		return isNew(o.Rotate) || o.Traits.Revocable && isNew(o.RetirePrevious)
	}
	return waiting && isNew(o.Rotate)
}

// Unrecorded reports whether a request is not recorded although there is a place to record it. It is for a reconcile whose
// step failed: the annotation may be gone by the time the step succeeds.
func Unrecorded(o Observation) bool {
	if o.Deleting || o.TakeOver.Inherited || o.Current == nil && (o.Pending == nil || !o.Traits.Durable) {
		return false
	}
	return isNew(o.Rotate) || o.Traits.Revocable && isNew(o.RetirePrevious)
}

// handed reports whether the user names a former owner that has not been taken over from yet.
func handed(o Observation) bool {
	return o.Traits.Revocable && o.TakeOver.From != "" && o.TakeOver.HonoredAt.IsZero()
}

// lapsed reports whether a former owner is recorded although the annotation was removed: set again, it is a new request.
func lapsed(o Observation) bool {
	return o.Traits.Revocable && o.TakeOver.Lapsed && !o.TakeOver.Inherited
}

// brake returns the unmet precondition that stops everything, as if rotation were suspended; nil if there is none.
func brake(o Observation) *Unmet {
	for i := range o.Preconditions {
		if o.Preconditions[i].Brake {
			return &o.Preconditions[i]
		}
	}
	return nil
}

func isNew(r Request) bool { return r.Token != "" && !r.Recorded }

func open(r Request) bool { return r.Token != "" && !r.Honored }

// unpublished reports whether the user's Secret, or the record of when it was written, is behind the ledger.
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

// proven reports whether the current version was accepted in this reconcile.
func proven(o Observation) bool {
	p := o.Proof
	return o.Current != nil && p.Seq == o.Current.Seq && p.InThisReconcile && p.Answer == credential.Accepted
}

// rejected returns how many times in a row the current version was rejected.
func rejected(o Observation) int {
	if o.Current == nil || o.Proof.Seq != o.Current.Seq || o.Proof.Answer != credential.Rejected {
		return 0
	}
	return max(o.Proof.Rejections, 1)
}

// refusedTwice reports whether the current version was rejected twice in a row, where that is an answer about the credential.
func refusedTwice(o Observation) bool { return o.Traits.Provable && rejected(o) > 1 }

// restorable reports whether the remote system can be made to accept a version again with the recorded material: it holds the
// state of each version, and rekey made the secret.
func restorable(o Observation) bool { return o.Traits.Revocable && !o.Traits.Minted }

// lost reports whether the current version is refused and can only be replaced.
func lost(o Observation) bool { return refusedTwice(o) && !restorable(o) }

// obstacle returns the first unmet precondition of a version that follows another one; nil if there is none.
func obstacle(o Observation) *Unmet {
	for i := range o.Preconditions {
		if !o.Preconditions[i].FirstOnly {
			return &o.Preconditions[i]
		}
	}
	return nil
}

// spared reports whether the previous version stays after the overlap: the current one is lost and cannot be replaced yet, so the
// previous one may be the only version that works.
func spared(o Observation) bool {
	early := o.Now.Before(replaceableAt(o)) && cause(o) == ""
	return lost(o) && !open(o.RetirePrevious) && (early || obstacle(o) != nil)
}

// refusedInOverlap is for a previous version that is due to be retired while the server refuses its successor.
func refusedInOverlap(o Observation) Decision {
	at, replaceable := RetireAt(o), replaceableAt(o)
	switch unmet := obstacle(o); {
	case lost(o) && unmet != nil:
		return held(ProbeAt(o), *unmet)
	case lost(o) && o.Now.Before(replaceable):
		return wait(earliest(replaceable, ProbeAt(o)), ReasonOverlap, "Version %d was due to be retired at %s; it stays while the server refuses version %d, "+
			"which cannot be restored and is replaced at %s. To replace it now, set the annotation rekey.dev/rotate.",
			o.Previous.Seq, stamp(at), o.Current.Seq, stamp(replaceable))
	}
	return wait(ProbeAt(o), ReasonOverlap, "Version %d was due to be retired at %s; it stays while the server refuses version %d.",
		o.Previous.Seq, stamp(at), o.Current.Seq)
}

// settlable reports whether another version may be given up: the current one works, may be probed now, or is lost.
func settlable(o Observation) bool { return proven(o) || canProve(o) || lost(o) }

// canProve reports whether the current version may be probed now: after a rejection, probes are paced.
func canProve(o Observation) bool {
	return o.Current != nil && (rejected(o) == 0 || !o.Now.Before(ProbeAt(o)))
}

// overlapOver reports whether the previous version may be retired: by the clock, or at a user's request.
func overlapOver(o Observation) bool {
	at := RetireAt(o)
	if at.IsZero() || o.Target != TargetShowsCurrent {
		return false
	}
	return open(o.RetirePrevious) || (clockTrusted(o) && !o.Now.Before(at))
}

// unfit reports whether the pending version will never be published.
func unfit(o Observation) bool {
	return pendingAt(o, Proposed, Staged, Verified) &&
		(misfit(o) || o.PendingAnswer == credential.Rejected || expired(o) || superseded(o))
}

// misfit reports whether the pending version was created for something else than what is required now. The key that signs a certificate
// is part of that; while its authority cannot be opened, the key is not known, and a candidate may wait.
func misfit(o Observation) bool {
	return o.Pending.Fingerprint != o.Fingerprint && !(o.SourceClosed && Disposable(o.Traits))
}

// whyUnfit returns the reason, and what it means for the pending version.
func whyUnfit(o Observation) (reason, why string) {
	switch {
	case misfit(o):
		return ReasonSpecChanged, "no longer matches the spec"
	case o.PendingAnswer != credential.Rejected && expired(o):
		return reasonCandidateRejected, "expired at " + stamp(o.Pending.NotAfter) + ", before it was published"
	case o.PendingAnswer != credential.Rejected:
		return ReasonRotateRequested, "makes no progress, and a rotation was requested"
	}
	return reasonCandidateRejected, "was rejected"
}

// expired reports whether the pending version expired before it was published.
func expired(o Observation) bool {
	return !o.Pending.NotAfter.IsZero() && !o.Now.Before(o.Pending.NotAfter)
}

// Disposable reports whether a candidate is recorded and nothing has to refuse it when it is given up: then the only cost of giving
// it up is another request.
func Disposable(traits credential.Traits) bool { return traits.Durable && !traits.Revocable }

// superseded reports whether a user requested a rotation after the pending version was proposed, which does not progress: whatever
// holds it up, the user has another one created.
func superseded(o Observation) bool {
	at := supersededAt(o)
	return !at.IsZero() && !o.Now.Before(at)
}

// supersededAt returns when superseded starts to hold; zero for never.
func supersededAt(o Observation) time.Time {
	if !Disposable(o.Traits) || !pendingAt(o, Proposed, Staged) || !open(o.Rotate) || o.Pending.Request == o.Rotate.Token {
		return time.Time{}
	}
	return o.Pending.ProposedAt.Add(progressTime)
}

// markedAbove reports whether the remote system has a newer version than the ledger.
func markedAbove(o Observation) bool {
	return o.Marker.State == MarkerOurs && o.Marker.Seq > o.Current.Seq
}

// ours reports whether the login may be set again: it has our marker, or the marker or the login itself is gone and the
// ledger says that we created it.
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

// cause returns the reason for a rotation; empty for none.
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

// NotYetValid reports whether C is a certificate that was issued while the clock was ahead: by a clock that agrees with the
// API server's, no client accepts it yet. Issuing another one is harmless and fixes it.
func NotYetValid(o Observation) bool {
	return o.Current != nil && !o.Traits.Provable && !o.Current.NotAfter.IsZero() && o.Current.CommittedAt.Sub(o.Now) > futureTolerance &&
		o.ClockKnown && o.ClockOff.Abs() < trustedClock
}

// discardable reports whether the pending version may be discarded now.
func discardable(o Observation) bool {
	return unfit(o) && (o.Current == nil || !o.Traits.Provable || settlable(o))
}

// impossible reports whether no run of the planner leads to these versions.
func impossible(o Observation) bool {
	known := o.Pending == nil || pendingAt(o, Proposed, Staged, Verified, Discarded)
	return !known || (o.Previous != nil && (o.Pending != nil || o.Current == nil))
}
