// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"slices"
	"time"
)

// Row is one row of the table: if it matches, it decides.
type Row struct {
	// Name is the row's name, as transcripts and the docs show it.
	Name string
	// If and Then describe match and decide in words, for the docs.
	If, Then string

	match  func(Observation) bool
	decide func(Observation) Decision
}

// Matches reports whether the row would decide if no row before it did.
func (r Row) Matches(o Observation) bool { return r.match(o) }

// Next returns the decision for an observation. The first row that matches wins.
func Next(o Observation) Decision { return Decide(table, o) }

// Rows returns the table, for the docs and for tests that damage it.
func Rows() []Row { return slices.Clone(table) }

// Decide returns the decision of the given rows.
func Decide(rows []Row, o Observation) Decision {
	for _, row := range rows {
		if row.match(o) {
			d := row.decide(o)
			d.Row, d.WakeAt = row.Name, wakeAt(o, d.WakeAt)
			return d
		}
	}
	return Decision{Step: StepNone, WakeAt: wakeAt(o, time.Time{})}
}

// table is the whole life of a credential. P is the pending version, C the current one, V the previous one.
// doc.go explains how to read it, docs/design/0001-planner.md why it looks like this.
var table = []Row{
	{
		Name: "withdraw", If: "the object is being deleted", Then: "Withdraw, according to the deletion policy",
		match:  func(o Observation) bool { return o.Deleting },
		decide: withdraw,
	},
	{
		Name: "inherited", If: "the ledger belongs to a former owner, and a user has handed it over",
		Then:   "TakeOver if not suspended and every precondition holds, else none",
		match:  func(o Observation) bool { return handed(o) && o.TakeOver.Inherited },
		decide: inherited,
	},
	{
		Name: "publish", If: "the user's Secret is ours or free and does not show C, or it is not recorded when it was first published",
		Then:   "Publish, then record when",
		match:  unpublished,
		decide: publish,
	},
	{
		Name: "record", If: "a user request has not been recorded, or a former owner is recorded that the user no longer names", Then: "Record",
		match:  unwritten,
		decide: record,
	},
	{
		Name: "suspended", If: "suspended, or the RotationPolicy that may suspend it is missing", Then: "none; expiry levels continue",
		match:  func(o Observation) bool { return o.Suspended || brake(o) != nil },
		decide: suspended,
	},
	{
		Name: "foreign-secret", If: "the user's Secret belongs to another owner", Then: "none: SecretConflict",
		match:  func(o Observation) bool { return o.Target == TargetForeign },
		decide: foreignSecret,
	},
	{
		Name: "take-over", If: "a user named a former owner that has not been taken over from yet, and every precondition holds",
		Then:   "TakeOver: the ledger, then the markers, then the ledger",
		match:  func(o Observation) bool { return handed(o) && len(o.Preconditions) == 0 },
		decide: takeOver,
	},
	{
		Name: "renumber", If: "C was rejected twice and the marker is ours, but above C", Then: "Renumber (a restored ledger)",
		match:  func(o Observation) bool { return refusedTwice(o) && restorable(o) && markedAbove(o) },
		decide: renumber,
	},
	{
		Name: "reassert", If: "C was rejected twice and the marker is ours, missing, or gone together with the login",
		Then:   "Reassert (a restored remote system)",
		match:  func(o Observation) bool { return refusedTwice(o) && restorable(o) && ours(o) },
		decide: reassert,
	},
	{
		Name: "retire", If: "V may be retired: C is published and the overlap has ended (trusted clock) or was ended by request; without a request not while C is lost and cannot be replaced yet",
		Then:   "Retire if C was accepted in this reconcile, or is lost; else Probe",
		match:  func(o Observation) bool { return o.Traits.Revocable && overlapOver(o) && settlable(o) && !spared(o) },
		decide: retire,
	},
	{
		Name: "discarding", If: "P is Discarded", Then: "Discard (make the remote system refuse it, then remove it)",
		match:  func(o Observation) bool { return pendingAt(o, Discarded) },
		decide: discarding,
	},
	{
		Name: "discard", If: "P no longer matches the spec, was finally rejected, has expired, or does not progress although a rotation was requested after it; and there is no C, or C can be proven",
		Then:   "Discard (record the decision) if C was accepted in this reconcile, or can only be replaced; else Probe",
		match:  discardable,
		decide: discard,
	},
	{
		Name: "guard", If: "P and V at once, V without C, or an unknown stage", Then: "none: a slot would be used twice",
		match:  impossible,
		decide: guard,
	},
	{
		Name: "stage", If: "P is Proposed", Then: "Stage",
		match:  func(o Observation) bool { return pendingAt(o, Proposed) },
		decide: candidate(StepStage, "Version %d is recorded; staging it at the server."),
	},
	{
		Name: "verify", If: "P is Staged", Then: "Verify",
		match:  func(o Observation) bool { return pendingAt(o, Staged) },
		decide: candidate(StepVerify, "Version %d is staged; verifying it as a client would use it."),
	},
	{
		Name: "commit", If: "P is Verified", Then: "Commit: P becomes C, C becomes V",
		match:  func(o Observation) bool { return pendingAt(o, Verified) },
		decide: candidate(StepCommit, "Version %d is verified; it becomes the current version."),
	},
	{
		Name: "replace", If: "C was rejected twice and staging it again cannot help, since the source is Minted or not Revocable; and there is no V",
		Then:   "Propose a replacement if every precondition holds, else none; before C is an hour old, Probe again later unless a rotation is wanted anyway",
		match:  func(o Observation) bool { return lost(o) && o.Previous == nil },
		decide: replace,
	},
	{
		Name: "refused", If: "C was rejected twice and the marker is foreign or unread", Then: "none: CredentialRejected; Probe again later",
		match:  func(o Observation) bool { return refusedTwice(o) && restorable(o) },
		decide: refused,
	},
	{
		Name: "missing", If: "there is no C", Then: "Propose if every precondition holds, else none",
		match:  func(o Observation) bool { return o.Current == nil },
		decide: missing,
	},
	{
		Name: "overlap", If: "there is a V", Then: "Probe if the proof of C is old, else none until V may be retired",
		match:  func(o Observation) bool { return o.Previous != nil },
		decide: overlap,
	},
	{
		Name: "rotate", If: "the spec requires other material, a user requested a rotation, or C is due",
		Then:   "Propose if every precondition holds, else none",
		match:  func(o Observation) bool { return cause(o) != "" },
		decide: rotate,
	},
	{
		Name: "probe", If: "the proof of C is old", Then: "Probe",
		match:  proofOld,
		decide: probe,
	},
	{
		Name: "clock", If: "a recorded time is in the future", Then: "none: ClockSkew",
		match:  recordedInFuture,
		decide: clockSkew,
	},
	{
		Name: "quiet", If: "otherwise", Then: "none until the next time that matters",
		match:  func(Observation) bool { return true },
		decide: quiet,
	},
}

func withdraw(Observation) Decision {
	return do(StepWithdraw, ReasonDeleting, "The object is being deleted; what it owns is withdrawn according to its deletion policy.")
}

func inherited(o Observation) Decision {
	switch {
	case o.Suspended:
		return wait(time.Time{}, ReasonSuspended, "Nothing is taken over from %s until spec.suspend is false, here and in the policy.", o.TakeOver.From)
	case len(o.Preconditions) > 0:
		return held(time.Time{}, o.Preconditions[0])
	}
	return takeOver(o)
}

func takeOver(o Observation) Decision {
	if !o.TakeOver.Recorded {
		return do(StepTakeOver, ReasonHandedOver, "The credential will be taken over from %s; recording that first.", o.TakeOver.From)
	}
	return do(StepTakeOver, ReasonHandedOver, "Taking the credential over from %s.", o.TakeOver.From)
}

func publish(o Observation) Decision {
	switch o.Target {
	case TargetMissing:
		return do(StepPublish, ReasonSecretMissing, "The Secret is missing; writing it with version %d.", o.Current.Seq)
	case TargetShowsCurrent:
		return do(StepPublish, ReasonPublished, "The Secret shows version %d; recording when.", o.Current.Seq)
	case TargetDiffers, TargetForeign:
	}
	return do(StepPublish, ReasonSecretDiffers, "The Secret differs from version %d; rewriting it.", o.Current.Seq)
}

func record(Observation) Decision {
	return do(StepRecord, ReasonRequested, "Recording the request in the annotations.")
}

func suspended(o Observation) Decision {
	if unmet := brake(o); unmet != nil && !o.Suspended {
		return held(time.Time{}, *unmet)
	}
	d := wait(time.Time{}, ReasonSuspended, "Rotation is suspended until spec.suspend is false, here and in the policy.")
	if due := Due(o); o.Current != nil && !due.IsZero() {
		d.Message = fmt.Sprintf("Rotation is suspended until spec.suspend is false, here and in the policy; version %d is due at %s.",
			o.Current.Seq, stamp(due))
	}
	return d
}

func foreignSecret(o Observation) Decision {
	for _, u := range o.Preconditions {
		if u.Reason == reasonSecretConflict {
			return held(time.Time{}, u)
		}
	}
	return held(time.Time{}, Unmet{Reason: reasonSecretConflict, Permanent: true,
		Message: "The target Secret belongs to another owner; delete it, or hand it over with the annotation rekey.dev/adopt."})
}

func renumber(o Observation) Decision {
	return do(StepRenumber, ReasonRestored, "The server refuses version %d and its marker names version %d: the ledger was restored "+
		"from an older state; renumbering the version above that marker.", o.Current.Seq, o.Marker.Seq)
}

func reassert(o Observation) Decision {
	return do(StepReassert, ReasonRestored, "The server refuses version %d, which is ours: the server was restored from an older state or changed "+
		"by hand; staging the version again.", o.Current.Seq)
}

func retire(o Observation) Decision {
	reason := ReasonOverlapEnded
	if open(o.RetirePrevious) {
		reason = ReasonRetireRequested
	}
	if lost(o) {
		return do(StepRetire, reason, "Version %d is refused and will be replaced; retiring version %d first.", o.Current.Seq, o.Previous.Seq)
	}
	if !proven(o) {
		return prepare(StepRetire, reason, "Version %d is due to be retired; proving first that version %d works.", o.Previous.Seq, o.Current.Seq)
	}
	return do(StepRetire, reason, "Version %d works; retiring version %d.", o.Current.Seq, o.Previous.Seq)
}

func discarding(o Observation) Decision {
	return do(StepDiscard, ReasonCandidate, "Version %d is discarded; making the server refuse it.", o.Pending.Seq)
}

func discard(o Observation) Decision {
	reason, why := whyUnfit(o)
	if o.Current != nil && o.Traits.Provable && !proven(o) && !lost(o) {
		return prepare(StepDiscard, reason, "Version %d %s; it is discarded once version %d is proven to work.", o.Pending.Seq, why, o.Current.Seq)
	}
	return do(StepDiscard, reason, "Version %d %s; discarding it.", o.Pending.Seq, why)
}

func guard(o Observation) Decision {
	return held(RetireAt(o), Unmet{Reason: reasonLedgerInvalid, Permanent: true,
		Message: "The ledger holds an impossible combination of versions; it was edited or damaged. Delete it, and rekey rebuilds it from the Secret."})
}

// candidate returns the decision for a step of the pending version.
func candidate(step Step, format string) func(Observation) Decision {
	return func(o Observation) Decision { return do(step, ReasonCandidate, format, o.Pending.Seq) }
}

func refused(o Observation) Decision {
	if again := ProbeAt(o); again.After(o.Now) {
		if at := o.TakeOver.HonoredAt; !at.IsZero() && o.Marker.Owner == o.TakeOver.From {
			return held(again, Unmet{Reason: reasonFenced, Permanent: true, Message: fmt.Sprintf(
				"The server refuses version %d, which is published: the login was taken over from %s at %s and belongs to that owner again; nothing is changed. "+
					"To hand it over again, remove the annotation rekey.dev/take-over-from and set it again.", o.Current.Seq, o.TakeOver.From, stamp(at))})
		}
		whose := "carries another owner's marker"
		if o.Marker.State == MarkerUnread {
			whose = "has no marker that rekey could read"
		}
		return held(again, Unmet{Reason: reasonCredentialRejected, Permanent: true, Message: fmt.Sprintf(
			"The server refuses version %d, which is published, and the login %s; nothing is changed. "+
				"Find out who changed the login; rekey retries every few minutes.", o.Current.Seq, whose)})
	}
	return do(StepProbe, reasonCredentialRejected, "Version %d was rejected; probing it again.", o.Current.Seq)
}

func replace(o Observation) Decision {
	if unmet := obstacle(o); unmet != nil {
		return held(time.Time{}, *unmet)
	}
	if at := replaceableAt(o); o.Now.Before(at) && cause(o) == "" {
		if again := ProbeAt(o); again.After(o.Now) {
			return held(earliest(at, again), Unmet{Reason: reasonCredentialRejected, Message: fmt.Sprintf(
				"The server refuses version %d, which is published and cannot be restored; it was accepted less than an hour ago, so it is only replaced at %s. "+
					"To replace it now, set the annotation rekey.dev/rotate.", o.Current.Seq, stamp(at))})
		}
		return do(StepProbe, reasonCredentialRejected, "Version %d was rejected; probing it again.", o.Current.Seq)
	}
	return do(StepPropose, reasonCredentialRejected, "The server refuses version %d, which is published and cannot be restored; creating version %d.",
		o.Current.Seq, NextSeq(o))
}

func missing(o Observation) Decision {
	if len(o.Preconditions) > 0 {
		return held(time.Time{}, o.Preconditions[0])
	}
	return do(StepPropose, ReasonMissing, "There is no version yet; creating version %d.", NextSeq(o))
}

func overlap(o Observation) Decision {
	if proofOld(o) {
		return probe(o)
	}
	at := RetireAt(o)
	after := ""
	if cause(o) != "" {
		after = " The next rotation starts after that."
	}
	switch {
	case at.IsZero():
		return wait(ProbeAt(o), ReasonOverlap, "Version %d stays accepted until the Secret shows its successor.", o.Previous.Seq)
	case recordedInFuture(o):
		return clockSkew(o)
	case o.Now.Before(at):
		return wait(earliest(at, ProbeAt(o)), ReasonOverlap, "Version %d stays accepted until %s.%s", o.Previous.Seq, stamp(at), after)
	case !clockTrusted(o):
		return held(o.Now.Add(trustedClock), Unmet{Reason: reasonClockSkew, Message: fmt.Sprintf(
			"Version %d was due to be retired at %s, but rekey's clock is not known to agree with the API server's; "+
				"nothing is retired until it does.", o.Previous.Seq, stamp(at))})
	}
	return refusedInOverlap(o)
}

func rotate(o Observation) Decision {
	if unmet := obstacle(o); unmet != nil {
		return held(time.Time{}, *unmet)
	}
	why := cause(o)
	text := map[string]string{
		ReasonSpecChanged:     "The spec requires material that version %d does not have; creating version %d.",
		ReasonRotateRequested: "A rotation of version %d was requested; creating version %d.",
		ReasonDue:             "Version %d is due; creating version %d.",
	}[why]
	return do(StepPropose, why, text, o.Current.Seq, NextSeq(o))
}

func probe(o Observation) Decision {
	return do(StepProbe, ReasonProofOld, "Proving that version %d still works, as a client would use it.", o.Current.Seq)
}

func clockSkew(o Observation) Decision {
	return held(time.Time{}, Unmet{Reason: reasonClockSkew, Message: fmt.Sprintf(
		"A recorded time, %s, is still in the future: rekey's clock is wrong, or was wrong when the time was recorded. "+
			"Nothing that depends on time happens until then.", stamp(latestRecorded(o)))})
}

func quiet(o Observation) Decision {
	due := Due(o)
	own := due
	if at := ProbeAt(o); at.After(o.Now) {
		own = earliest(own, at)
	}
	if due.IsZero() {
		return wait(own, ReasonNothingDue, "Version %d is current; no rotation is due.", o.Current.Seq)
	}
	return wait(own, ReasonNothingDue, "Version %d is current; the next rotation is due at %s.", o.Current.Seq, stamp(due))
}
