// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"slices"
	"time"
)

// Row is one line of the table: if it matches, it decides.
type Row struct {
	// Name of the row, one for ever: metrics and transcripts show it.
	Name string
	// If and Then say in words what match and decide do, for the docs.
	If, Then string

	match  func(Observation) bool
	decide func(Observation) Decision
}

// Matches tells whether the row would decide if none before it did.
func (r Row) Matches(o Observation) bool { return r.match(o) }

// Next decides. The first row that matches wins.
func Next(o Observation) Decision { return Decide(table, o) }

// Rows is the table, for the docs and for tests that damage it.
func Rows() []Row { return slices.Clone(table) }

// Decide decides by the given rows.
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
// doc.go says how to read it, docs/design/0001-planner.md why it is as it is.
var table = []Row{
	{
		Name: "withdraw", If: "the object is being deleted", Then: "Withdraw, as the deletion policy says",
		match:  func(o Observation) bool { return o.Deleting },
		decide: withdraw,
	},
	{
		Name: "inherited", If: "what is written down is that of a former owner, from which a person handed it over",
		Then:   "TakeOver if not suspended and every precondition holds, else none",
		match:  func(o Observation) bool { return handed(o) && o.TakeOver.Inherited },
		decide: inherited,
	},
	{
		Name: "publish", If: "the user's Secret is ours or free and does not show C, or it is not recorded since when it does",
		Then:   "Publish, then record when",
		match:  unpublished,
		decide: publish,
	},
	{
		Name: "record", If: "a request of a person is not written down, or a former owner is that the person does not name any more", Then: "Record",
		match:  unwritten,
		decide: record,
	},
	{
		Name: "suspended", If: "suspended, or the policy that may say so is missing", Then: "none; expiry levels go on",
		match:  func(o Observation) bool { return o.Suspended || brake(o) != nil },
		decide: suspended,
	},
	{
		Name: "foreign-secret", If: "the user's Secret belongs to somebody else", Then: "none: SecretConflict",
		match:  func(o Observation) bool { return o.Target == TargetForeign },
		decide: foreignSecret,
	},
	{
		Name: "take-over", If: "a person named a former owner from which nothing was taken over yet, and every precondition holds",
		Then:   "TakeOver: the ledger, then the marks, then the ledger",
		match:  func(o Observation) bool { return handed(o) && len(o.Preconditions) == 0 },
		decide: takeOver,
	},
	{
		Name: "renumber", If: "C was rejected twice and the mark is ours, but above C", Then: "Renumber (a restored ledger)",
		match:  func(o Observation) bool { return o.Traits.Remote && rejected(o) > 1 && markedAbove(o) },
		decide: renumber,
	},
	{
		Name: "reassert", If: "C was rejected twice and the mark is ours, missing, or gone with the login",
		Then:   "Reassert (a restored remote end)",
		match:  func(o Observation) bool { return o.Traits.Remote && rejected(o) > 1 && ours(o) },
		decide: reassert,
	},
	{
		Name: "retire", If: "V may go: C is published, and the overlap is over by a trusted clock or by request",
		Then:   "Retire if C was accepted in this pass, else Probe",
		match:  func(o Observation) bool { return o.Traits.Remote && overlapOver(o) && (proven(o) || canProve(o)) },
		decide: retire,
	},
	{
		Name: "discarding", If: "P is Discarded", Then: "Discard (have it refused, then forget it)",
		match:  func(o Observation) bool { return pendingAt(o, Discarded) },
		decide: discarding,
	},
	{
		Name: "discard", If: "P does not fit the spec any more, or was finally rejected; and there is no C, or C can be proven",
		Then:   "Discard (write that down) if C was accepted in this pass, else Probe",
		match:  discardable,
		decide: discard,
	},
	{
		Name: "guard", If: "P and V at once, V without C, or a stage that nobody knows", Then: "none: a slot would be taken twice",
		match:  impossible,
		decide: guard,
	},
	{
		Name: "stage", If: "P is Proposed", Then: "Stage",
		match:  func(o Observation) bool { return pendingAt(o, Proposed) },
		decide: candidate(StepStage, "Version %d is written down; the remote end is told to accept it."),
	},
	{
		Name: "verify", If: "P is Staged", Then: "Verify",
		match:  func(o Observation) bool { return pendingAt(o, Staged) },
		decide: candidate(StepVerify, "Version %d is in place; it is used as a client would."),
	},
	{
		Name: "commit", If: "P is Verified", Then: "Commit: P becomes C, C becomes V",
		match:  func(o Observation) bool { return pendingAt(o, Verified) },
		decide: candidate(StepCommit, "Version %d works; it becomes the current one."),
	},
	{
		Name: "refused", If: "C was rejected twice and the mark is foreign or unread", Then: "none: CredentialRejected; Probe again later",
		match:  func(o Observation) bool { return o.Traits.Remote && rejected(o) > 1 },
		decide: refused,
	},
	{
		Name: "missing", If: "there is no C", Then: "Propose if every precondition holds, else none",
		match:  func(o Observation) bool { return o.Current == nil },
		decide: missing,
	},
	{
		Name: "overlap", If: "there is a V", Then: "Probe where the proof of C is old, else none until V may go",
		match:  func(o Observation) bool { return o.Previous != nil },
		decide: overlap,
	},
	{
		Name: "rotate", If: "the spec asks for other material, or a person for a rotation, or C is due",
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
		Name: "clock", If: "a recorded time lies in the future", Then: "none: ClockSkew",
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
	return do(StepWithdraw, ReasonDeleting, "The object is being deleted; what it owns is withdrawn as its deletion policy says.")
}

func inherited(o Observation) Decision {
	switch {
	case o.Suspended:
		return wait(time.Time{}, ReasonSuspended, "Nothing is taken over from %s until spec.suspend, here or in the policy, is false.", o.TakeOver.From)
	case len(o.Preconditions) > 0:
		return held(time.Time{}, o.Preconditions[0])
	}
	return takeOver(o)
}

func takeOver(o Observation) Decision {
	if !o.TakeOver.Recorded {
		return do(StepTakeOver, ReasonHandedOver, "The credential is to be taken over from %s; that is written down.", o.TakeOver.From)
	}
	return do(StepTakeOver, ReasonHandedOver, "The credential is taken over from %s.", o.TakeOver.From)
}

func publish(o Observation) Decision {
	switch o.Target {
	case TargetMissing:
		return do(StepPublish, ReasonSecretMissing, "The Secret is missing; it is written to show version %d.", o.Current.Seq)
	case TargetShowsCurrent:
		return do(StepPublish, ReasonPublished, "The Secret shows version %d; that is recorded.", o.Current.Seq)
	case TargetDiffers, TargetForeign:
	}
	return do(StepPublish, ReasonSecretDiffers, "The Secret differs from version %d; it is written to show it.", o.Current.Seq)
}

func record(Observation) Decision {
	return do(StepRecord, ReasonRequested, "The request in the annotations is written down.")
}

func suspended(o Observation) Decision {
	if unmet := brake(o); unmet != nil && !o.Suspended {
		return held(time.Time{}, *unmet)
	}
	d := wait(time.Time{}, ReasonSuspended, "Rotation is suspended until spec.suspend, here or in the policy, is false.")
	if due := Due(o); o.Current != nil && !due.IsZero() {
		d.Message = fmt.Sprintf("Rotation is suspended until spec.suspend, here or in the policy, is false; version %d is due at %s.",
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
		Message: "The target Secret belongs to somebody else; delete it, or let it be adopted."})
}

func renumber(o Observation) Decision {
	return do(StepRenumber, ReasonRestored, "The remote end refuses version %d and carries the mark of version %d: the ledger was restored "+
		"from an older state; the version is given a number above that mark.", o.Current.Seq, o.Marker.Seq)
}

func reassert(o Observation) Decision {
	return do(StepReassert, ReasonRestored, "The remote end refuses version %d, which is ours: it was restored from an older state or changed "+
		"by hand; it is told again to accept the version.", o.Current.Seq)
}

func retire(o Observation) Decision {
	reason := ReasonOverlapEnded
	if open(o.RetirePrevious) {
		reason = ReasonRetireRequested
	}
	if !proven(o) {
		return prepare(StepRetire, reason, "Version %d is due to be retired; version %d must first be proven to work.", o.Previous.Seq, o.Current.Seq)
	}
	return do(StepRetire, reason, "Version %d works; version %d is retired.", o.Current.Seq, o.Previous.Seq)
}

func discarding(o Observation) Decision {
	return do(StepDiscard, ReasonCandidate, "Version %d is discarded; the remote end is told to refuse it.", o.Pending.Seq)
}

func discardable(o Observation) bool {
	return unfit(o) && (o.Current == nil || !o.Traits.Remote || proven(o) || canProve(o))
}

func discard(o Observation) Decision {
	reason, why := ReasonSpecChanged, "does not fit the spec any more"
	if o.Pending.Fingerprint == o.Fingerprint {
		reason, why = reasonCandidateRejected, "was refused"
	}
	if o.Current != nil && o.Traits.Remote && !proven(o) {
		return prepare(StepDiscard, reason, "Version %d %s; before it is discarded, version %d is proven to work.", o.Pending.Seq, why, o.Current.Seq)
	}
	return do(StepDiscard, reason, "Version %d %s; it is discarded.", o.Pending.Seq, why)
}

func impossible(o Observation) bool {
	known := o.Pending == nil || pendingAt(o, Proposed, Staged, Verified, Discarded)
	return !known || (o.Previous != nil && (o.Pending != nil || o.Current == nil))
}

func guard(o Observation) Decision {
	return held(RetireAt(o), Unmet{Reason: reasonLedgerInvalid, Permanent: true,
		Message: "The ledger holds versions that cannot be there together; it was edited or damaged. Delete it to have it rebuilt from the Secret."})
}

// candidate is a step of the pending version.
func candidate(step Step, format string) func(Observation) Decision {
	return func(o Observation) Decision { return do(step, ReasonCandidate, format, o.Pending.Seq) }
}

func refused(o Observation) Decision {
	if again := ProbeAt(o); again.After(o.Now) {
		if at := o.TakeOver.HonouredAt; !at.IsZero() && o.Marker.Owner == o.TakeOver.From {
			return held(again, Unmet{Reason: reasonFenced, Permanent: true, Message: fmt.Sprintf(
				"The remote end refuses version %d, which is published, and the login belongs to %s again, from which it was taken over at %s; nothing is changed. "+
					"To hand it over again, remove the annotation rekey.dev/take-over-from and set it anew.", o.Current.Seq, o.TakeOver.From, stamp(at))})
		}
		whose := "carries a mark of somebody else"
		if o.Marker.State == MarkerUnread {
			whose = "does not say whose it is"
		}
		return held(again, Unmet{Reason: reasonCredentialRejected, Permanent: true, Message: fmt.Sprintf(
			"The remote end refuses version %d, which is published, and the login %s; nothing is changed. "+
				"Find out who changed the login. It is tried again every few minutes.", o.Current.Seq, whose)})
	}
	return do(StepProbe, reasonCredentialRejected, "Version %d was refused; it is tried again.", o.Current.Seq)
}

func missing(o Observation) Decision {
	if len(o.Preconditions) > 0 {
		return held(time.Time{}, o.Preconditions[0])
	}
	return do(StepPropose, ReasonMissing, "There is no version yet; version %d is made.", NextSeq(o))
}

func overlap(o Observation) Decision {
	if proofOld(o) {
		return probe(o)
	}
	at := RetireAt(o)
	after := ""
	if cause(o) != "" {
		after = " The next rotation begins after that."
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
			"Version %d could have gone at %s, but the clock of rekey is not known to agree with that of the API server; "+
				"nothing is retired before it does.", o.Previous.Seq, stamp(at))})
	}
	return wait(ProbeAt(o), ReasonOverlap, "Version %d could have gone at %s; it stays until version %d is accepted by the remote end.",
		o.Previous.Seq, stamp(at), o.Current.Seq)
}

func rotate(o Observation) Decision {
	for _, unmet := range o.Preconditions {
		if !unmet.FirstOnly {
			return held(time.Time{}, unmet)
		}
	}
	why := cause(o)
	text := map[string]string{
		ReasonSpecChanged:     "The spec asks for other material than version %d has; version %d is made.",
		ReasonRotateRequested: "A rotation of version %d was asked for; version %d is made.",
		ReasonDue:             "Version %d is due; version %d is made.",
	}[why]
	return do(StepPropose, why, text, o.Current.Seq, NextSeq(o))
}

func proofOld(o Observation) bool {
	at := ProbeAt(o)
	return !at.IsZero() && !o.Now.Before(at)
}

func probe(o Observation) Decision {
	return do(StepProbe, ReasonProofOld, "Version %d is used as a client would, to see that it still works.", o.Current.Seq)
}

func clockSkew(o Observation) Decision {
	return held(time.Time{}, Unmet{Reason: reasonClockSkew, Message: fmt.Sprintf(
		"A time was written down as %s, which still lies in the future: the clock of rekey is wrong, or was when that was written. "+
			"Nothing that depends on the time is done until then.", stamp(latestRecorded(o)))})
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
