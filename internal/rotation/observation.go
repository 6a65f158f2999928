// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Step is one effect. The words are those of the life of a credential.
type Step string

// The steps. Each is one effect; after it the world is looked at again.
const (
	// StepNone means that there is nothing to do until Decision.WakeAt.
	StepNone Step = "None"
	// StepRecord writes down a person's request (rotate, retire-previous), because annotations may vanish.
	StepRecord Step = "Record"
	// StepTakeOver makes ours what a former owner has, where a person handed it over: it writes that down, has the remote end
	// change its marks, and writes down that it did.
	StepTakeOver Step = "TakeOver"
	// StepPropose makes up a new version and writes it down.
	StepPropose Step = "Propose"
	// StepStage makes the remote end accept the pending version, then writes that down.
	StepStage Step = "Stage"
	// StepVerify uses the pending version as a client would, then writes that down.
	StepVerify Step = "Verify"
	// StepCommit makes the pending version the current one, in one compare-and-swap.
	StepCommit Step = "Commit"
	// StepPublish makes the user's Secret show the current version, then records when that was.
	StepPublish Step = "Publish"
	// StepProbe uses the current version as a client would.
	StepProbe Step = "Probe"
	// StepRetire makes the remote end refuse the previous version, then forgets it.
	StepRetire Step = "Retire"
	// StepDiscard makes the remote end refuse the pending version, then forgets it.
	StepDiscard Step = "Discard"
	// StepRenumber raises the current version's number above the mark at the remote end (a restored ledger).
	StepRenumber Step = "Renumber"
	// StepReassert makes the remote end accept the current version again (a restored database).
	StepReassert Step = "Reassert"
	// StepWithdraw ends the credential's life with the object's, as the deletion policy says.
	StepWithdraw Step = "Withdraw"
)

// Stage says how far a version has come.
type Stage string

// The stages, in order.
const (
	Proposed Stage = "Proposed"
	Staged   Stage = "Staged"
	Verified Stage = "Verified"
	Current  Stage = "Current"
	Previous Stage = "Previous"
	// Discarded is a pending version that will never be published. It is written down before the remote end is told to
	// refuse it, so that nobody who reads the ledger later can still commit it.
	Discarded Stage = "Discarded"
)

// Version is one version of a credential, without its material. All times are UTC.
type Version struct {
	// Seq counts versions from 1; it never goes back.
	Seq int64 `json:"seq"`
	// Slot is the place of the source that the version lives in; empty where the source has one.
	Slot string `json:"slot,omitempty"`
	// Stage is how far the version has come.
	Stage Stage `json:"stage"`
	// Fingerprint hashes the fields of the spec that this version was made for.
	Fingerprint string `json:"fingerprint"`
	// ProposedAt is when the version was made up.
	ProposedAt time.Time `json:"proposedAt,omitzero"`
	// CommittedAt is when the version became the current one.
	CommittedAt time.Time `json:"committedAt,omitzero"`
	// PublishedAt is when the user's Secret was seen to show it; zero until then. The overlap counts from here.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	// NotAfter is when the version expires by itself; zero where it does not.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Overlap is how long the version before this one lives at least after this one was published. It is fixed at
	// Commit, so that a policy which is changed or cannot be read takes no login away early; 0 means the policy's.
	Overlap time.Duration `json:"overlap,omitempty"`
}

// Policy is when and how carefully, resolved: no reference is left, and no zero value means a default.
type Policy struct {
	// Interval after which a version is due, counted from CommittedAt; 0 for never.
	Interval time.Duration
	// JitterPercent of the interval by which a version may be due earlier.
	JitterPercent int
	// RenewBefore NotAfter a version is due; only with NotAfter.
	RenewBefore time.Duration
	// MaxAge since CommittedAt is the deadline of a version that does not expire by itself; 0 for none.
	MaxAge time.Duration
	// Overlap is how long the previous version lives at least after the current one was published.
	Overlap time.Duration
	// WarnBefore and AlarmBefore the deadline the levels begin.
	WarnBefore, AlarmBefore time.Duration
	// ProbeInterval is how old the proof of the current version may become.
	ProbeInterval time.Duration
}

// TargetState says what the user's Secret shows.
type TargetState string

// The states of the user's Secret.
const (
	TargetShowsCurrent TargetState = "ShowsCurrent"
	TargetDiffers      TargetState = "Differs"
	TargetMissing      TargetState = "Missing"
	TargetForeign      TargetState = "Foreign"
)

// Proof is when the current version was last proven by this process, and the answer. Zero at start.
type Proof struct {
	// Seq of the version that was proven; a proof of another version counts for nothing.
	Seq int64
	// At is when.
	At time.Time
	// Answer is what the remote end said.
	Answer credential.Answer
	// Rejections in a row.
	Rejections int
	// InThisPass is true where the proof was made by the pass that is looking now.
	InThisPass bool
}

// MarkerState says whom the remote end's mark on the current version's slot names.
type MarkerState string

// The states of a mark. The empty word means that it was not read.
const (
	MarkerUnread  MarkerState = ""
	MarkerOurs    MarkerState = "Ours"
	MarkerForeign MarkerState = "Foreign"
	// MarkerMissing: the login is there without a mark.
	MarkerMissing MarkerState = "Missing"
	// MarkerAbsent: the login itself is not there.
	MarkerAbsent MarkerState = "Absent"
)

// Mark is a MarkerState and the version that it names.
type Mark struct {
	State MarkerState
	Seq   int64
	// Owner that a foreign mark names, as cluster/namespace/name; empty where it is not foreign.
	Owner string
}

// Handover is what a person handed over to the credential with an annotation that names the former owner.
type Handover struct {
	// From is the former owner that the annotation names, as cluster/namespace/name; empty for none.
	From string
	// Recorded is true where that is written down already. Lapsed is true where a former owner is written down, and From is
	// empty.
	Recorded, Lapsed bool
	// HonouredAt is when it was taken over from From; zero where it was not.
	HonouredAt time.Time
	// Inherited is true where what is written down is the former owner's still.
	Inherited bool
}

// Request is what a person asked for by an annotation.
type Request struct {
	// Token is the annotation's value, or the one that was written down; empty for none.
	Token string
	// Recorded is true where the token is written down already.
	Recorded bool
	// Honoured is true where it was carried out.
	Honoured bool
}

// Unmet is a precondition that does not hold.
type Unmet struct {
	// Reason is a word of package fault.
	Reason string
	// Message says what, where and what to do.
	Message string
	// Permanent is true where only a change of the spec or of the other side helps.
	Permanent bool
	// Pending is true where it is only a matter of moments: nobody has to act, and nobody is told.
	Pending bool
	// Transient is true where it could not be found out, and may be so already.
	Transient bool
	// FirstOnly is true where it stands in the way of a first version, but of no renewal.
	FirstOnly bool
	// Brake is true where nothing may be taken away, repaired or made, as if rotation were suspended: whether it is cannot be
	// known.
	Brake bool
}

// Observation is everything that Next may know.
type Observation struct {
	// Now is the wall clock, UTC. ClockOff is how far it is from that of the API server, absolute; ClockKnown is false
	// where that was not seen yet.
	Now        time.Time
	ClockOff   time.Duration
	ClockKnown bool
	// UID of the object: jitter is a hash of it.
	UID string
	// FirstSeen is when this process saw the object for the first time: the first probes after a start are paced from it.
	FirstSeen time.Time
	// Policy, resolved.
	Policy Policy
	// Traits of the source.
	Traits credential.Traits
	// Fingerprint of the fields of the spec that demand new material.
	Fingerprint string
	// Pending, Current and Previous are what is written down; nil where there is none.
	Pending, Current, Previous *Version
	// LastSeq is the highest number ever given.
	LastSeq int64
	// Target is what the user's Secret shows.
	Target TargetState
	// Proof of the current version.
	Proof Proof
	// PendingAnswer is what the remote end said of the pending version in this process.
	PendingAnswer credential.Answer
	// Marker on the slot of the current version; read when that was rejected.
	Marker Mark
	// Rotate and RetirePrevious are a person's requests.
	Rotate, RetirePrevious Request
	// TakeOver is what a person handed over.
	TakeOver Handover
	// Preconditions that do not hold.
	Preconditions []Unmet
	// Deleting and Suspended are what the object says.
	Deleting, Suspended bool
}
