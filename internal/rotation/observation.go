// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Step is one effect, named after what happens in the life of a credential.
type Step string

// The steps. Each is one effect; after it the driver observes again.
const (
	// StepNone means that there is nothing to do until Decision.WakeAt.
	StepNone Step = "None"
	// StepRecord records a user's request (rotate, retire-previous), because annotations may disappear.
	StepRecord Step = "Record"
	// StepTakeOver takes over what a former owner has and a user has handed over: it records the intent, changes the markers
	// at the remote system, and records that it did.
	StepTakeOver Step = "TakeOver"
	// StepPropose generates a new version and records it.
	StepPropose Step = "Propose"
	// StepStage makes the remote system accept the pending version, then records that.
	StepStage Step = "Stage"
	// StepVerify uses the pending version as a client would, then records that.
	StepVerify Step = "Verify"
	// StepCommit makes the pending version the current one, in one compare-and-swap.
	StepCommit Step = "Commit"
	// StepPublish makes the user's Secret show the current version, then records when.
	StepPublish Step = "Publish"
	// StepProbe uses the current version as a client would.
	StepProbe Step = "Probe"
	// StepRetire makes the remote system refuse the previous version, then removes it from the ledger.
	StepRetire Step = "Retire"
	// StepDiscard makes the remote system refuse the pending version, then removes it from the ledger.
	StepDiscard Step = "Discard"
	// StepRenumber raises the current version's number above the marker at the remote system (a restored ledger).
	StepRenumber Step = "Renumber"
	// StepReassert makes the remote system accept the current version again (a restored database).
	StepReassert Step = "Reassert"
	// StepWithdraw removes or keeps the credential of a deleted object, according to the deletion policy.
	StepWithdraw Step = "Withdraw"
)

// Stage is how far a version has come.
type Stage string

// The stages, in order.
const (
	Proposed Stage = "Proposed"
	Staged   Stage = "Staged"
	Verified Stage = "Verified"
	Current  Stage = "Current"
	Previous Stage = "Previous"
	// Discarded is a pending version that will never be published. The stage is recorded before the remote system is made to
	// refuse the version, so that a later reader of the ledger cannot commit it.
	Discarded Stage = "Discarded"
)

// Version is one version of a credential, without its material. All times are UTC.
type Version struct {
	// Seq is the version's number, from 1; it never goes back.
	Seq int64 `json:"seq"`
	// Slot is the place at the source that the version uses; empty if the source has only one.
	Slot string `json:"slot,omitempty"`
	// Stage is how far the version has come.
	Stage Stage `json:"stage"`
	// Fingerprint is a hash of the spec fields that this version was created for.
	Fingerprint string `json:"fingerprint"`
	// ProposedAt is when the version was generated.
	ProposedAt time.Time `json:"proposedAt,omitzero"`
	// CommittedAt is when the version became the current one.
	CommittedAt time.Time `json:"committedAt,omitzero"`
	// PublishedAt is when the user's Secret was first observed to show it; zero until then. The overlap counts from here.
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	// NotAfter is when the version expires on its own; zero if it does not.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Overlap is the minimum time that the previous version lives after this one was published. It is fixed at Commit, so
	// that a changed or unreadable policy never retires a login early; 0 means the policy's overlap.
	Overlap time.Duration `json:"overlap,omitempty"`
	// Request is the token of the last request to rotate that was recorded when this version was proposed. It is recorded only if
	// the source is disposable.
	Request string `json:"request,omitempty"`
}

// Policy is the resolved rotation policy: it holds no references, and no zero value means a default.
type Policy struct {
	// Interval is the time from CommittedAt after which a version is due; 0 for never.
	Interval time.Duration
	// JitterPercent is the percentage of the interval by which a version may be due earlier.
	JitterPercent int
	// RenewBefore is how long before NotAfter a version is due; only with NotAfter.
	RenewBefore time.Duration
	// MaxAge is the time from CommittedAt to the deadline of a version that does not expire on its own; 0 for none.
	MaxAge time.Duration
	// Overlap is the minimum time that the previous version lives after the current one was published.
	Overlap time.Duration
	// WarnBefore and AlarmBefore are how long before the deadline the levels start.
	WarnBefore, AlarmBefore time.Duration
	// ProbeInterval is the maximum age of the current version's proof.
	ProbeInterval time.Duration
}

// TargetState is what the user's Secret shows.
type TargetState string

// The states of the user's Secret.
const (
	TargetShowsCurrent TargetState = "ShowsCurrent"
	TargetDiffers      TargetState = "Differs"
	TargetMissing      TargetState = "Missing"
	TargetForeign      TargetState = "Foreign"
)

// Proof is this process's last proof of the current version. Zero at start.
type Proof struct {
	// Seq is the version that was probed; a proof of another version does not count.
	Seq int64
	// At is when it was probed.
	At time.Time
	// Answer is the remote system's answer.
	Answer credential.Answer
	// Rejections is the number of rejections in a row.
	Rejections int
	// InThisReconcile is true if the proof was obtained in this reconcile.
	InThisReconcile bool
}

// MarkerState is whose marker the remote system has on the current version's slot.
type MarkerState string

// The states of a marker. The empty state means that it was not read.
const (
	MarkerUnread  MarkerState = ""
	MarkerOurs    MarkerState = "Ours"
	MarkerForeign MarkerState = "Foreign"
	// MarkerMissing: the login exists without a marker, or its remote system cannot hold one.
	MarkerMissing MarkerState = "Missing"
	// MarkerAbsent: the login itself does not exist.
	MarkerAbsent MarkerState = "Absent"
)

// Marker is the state of a marker and the version that it names.
type Marker struct {
	State MarkerState
	Seq   int64
	// Owner is the owner that a foreign marker names, as cluster/namespace/name; empty if it is not foreign.
	Owner string
}

// Handover is a user's request to take the credential over from a former owner, which an annotation names.
type Handover struct {
	// From is the former owner in the annotation, as cluster/namespace/name; empty for none.
	From string
	// Recorded is true if the request is already recorded. Lapsed is true if a former owner is recorded and From is empty.
	Recorded, Lapsed bool
	// HonoredAt is when the credential was taken over from From; zero if it was not.
	HonoredAt time.Time
	// Inherited is true if the ledger is still the former owner's.
	Inherited bool
}

// Request is a user's request, made with an annotation.
type Request struct {
	// Token is the annotation's value, or the recorded one; empty for none.
	Token string
	// Recorded is true if the token is already recorded.
	Recorded bool
	// Honored is true if the request was carried out.
	Honored bool
}

// Unmet is a precondition that does not hold.
type Unmet struct {
	// Reason is a reason of package fault.
	Reason string
	// Message names the problem, the object and the next step.
	Message string
	// Permanent is true if only a change of the spec or of the remote system helps.
	Permanent bool
	// Pending is true if the precondition will hold in moments: no action is needed, and no Event is emitted.
	Pending bool
	// Transient is true if it is unknown whether the precondition holds: it may hold already.
	Transient bool
	// FirstOnly is true if it blocks a first version but not a renewal.
	FirstOnly bool
	// Brake is true if nothing may be removed, repaired or created, as if rotation were suspended, because it cannot be known
	// whether it is.
	Brake bool
}

// Observation is everything that Next may know.
type Observation struct {
	// Now is the wall clock, UTC. ClockOff is its absolute difference to the API server's clock; ClockKnown is false if that
	// clock has not been seen yet.
	Now        time.Time
	ClockOff   time.Duration
	ClockKnown bool
	// UID is the object's UID: jitter is a hash of it.
	UID string
	// FirstSeen is when this process first saw the object: the first probes after a start are paced from it.
	FirstSeen time.Time
	// Policy is the resolved policy.
	Policy Policy
	// Traits are the source's traits.
	Traits credential.Traits
	// SourceClosed is true if the source could not be opened: it is unknown what it requires of a version beside the spec.
	SourceClosed bool
	// Fingerprint is a hash of the spec fields whose change requires new material.
	Fingerprint string
	// Pending, Current and Previous are the recorded versions; nil for none.
	Pending, Current, Previous *Version
	// LastSeq is the highest number that any version had.
	LastSeq int64
	// Target is what the user's Secret shows.
	Target TargetState
	// Proof is the proof of the current version.
	Proof Proof
	// PendingAnswer is the remote system's answer about the pending version in this process.
	PendingAnswer credential.Answer
	// Marker is the marker on the current version's slot; read when that version was rejected.
	Marker Marker
	// Rotate and RetirePrevious are the user's requests.
	Rotate, RetirePrevious Request
	// TakeOver is what the user has handed over.
	TakeOver Handover
	// Preconditions are those that do not hold.
	Preconditions []Unmet
	// Deleting and Suspended are true if the object is being deleted, or suspended by its spec or policy.
	Deleting, Suspended bool
}
