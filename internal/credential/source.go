// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Ref names one version of one credential for a Source.
type Ref struct {
	// Cluster is the UID of the kube-system namespace: it distinguishes a restored or cloned cluster from this one.
	Cluster string
	// Namespace and Name are those of the custom resource.
	Namespace, Name string
	// Seq is the number of the version, from 1. It never goes back.
	Seq int64
	// Slot is the slot that the version uses at a source with several slots: "a" or "b"; empty if there is only one.
	Slot string
}

// Owner returns the credential's name without a version, in the form of markers: cluster/namespace/name.
func (r Ref) Owner() string { return strings.Join([]string{r.Cluster, r.Namespace, r.Name}, "/") }

// String returns the version's name for logs and errors.
func (r Ref) String() string {
	return fmt.Sprintf("%s/%s version %d (slot %q)", r.Namespace, r.Name, r.Seq, r.Slot)
}

// Answer is a remote system's answer about a credential. The zero value is Unknown: whether the system was not asked, was not
// reached or gave an unclear answer makes no difference, and none of these counts as a rejection.
type Answer int

const (
	// Unknown means that there was no answer, or no clear one. It justifies only asking again.
	Unknown Answer = iota
	// Accepted means that the credential was used as a client would use it, and worked.
	Accepted
	// Rejected means that the remote system was reached, evaluated the credential and refused it, and that no change by
	// rekey is still in progress there.
	Rejected
)

// String implements fmt.Stringer.
func (a Answer) String() string {
	switch a {
	case Accepted:
		return "Accepted"
	case Rejected:
		return "Rejected"
	case Unknown:
	}
	return "Unknown"
}

// Traits describe what a source can do. They are all that the planner, the driver and the store know about it. Each trait answers
// one question, and none implies another.
type Traits struct {
	// Durable is true if a version has to be recorded before Stage, and until it is settled: Stage may take more than one call, or
	// leave something behind. It is false only where losing a candidate costs nothing.
	Durable bool
	// Provable is true if Verify is also meaningful after publication: the remote system may start to refuse the version.
	Provable bool
	// Revocable is true if the remote system accepts each version until Retire makes it refuse that version: the previous version
	// stays accepted during the overlap, and a discarded candidate has to be refused.
	Revocable bool
	// Minted is true if the remote system generates the secret: Propose returns no secret, and Stage finds and revokes what an
	// earlier Stage of the same version left, because its answer may have been lost. A refused version cannot be staged again.
	Minted bool
	// Slots are the slots that versions use in turn, in order; empty if there is only one. They follow from the strategy in the
	// spec, never from an object that may be missing.
	Slots []string
}

// Change is one change that a Source makes at the remote system.
type Change struct {
	// Ref is the version that the change is about.
	Ref Ref
	// Material is the version's recorded material. For Retire and Remove it may be missing, if the ledger was lost: a source with
	// markers does not need it.
	Material Material
	// StillWanted returns an error, the reason, if the caller no longer wants the change. Nil means that it always does.
	StillWanted func(ctx context.Context) error
}

// Confirm calls StillWanted. A Source calls it in Stage, TakeOver, Retire and Remove at a point from which no other process can
// change the slot until the change is made (inside the transaction, while holding the lock), and returns its error without
// having changed anything.
//
// A process that was paused for long cannot tell from a number alone that it is out of date: an object that was deleted and
// recreated counts from 1 again.
func (c Change) Confirm(ctx context.Context) error {
	if c.StillWanted == nil {
		return nil
	}
	return c.StillWanted(ctx)
}

// Staged is a version that the remote system accepts.
type Staged struct {
	// Material is the material to publish: the proposed one, completed with what the remote system adds.
	Material Material
	// NotAfter is when it expires on its own; zero if it does not. It is in the future: Stage returns an error instead of a version
	// that has already expired.
	NotAfter time.Time
}

// Source puts versions of one credential into effect and retires them. Every method with a context is called with a deadline,
// and returns errors of package fault. No method prints or wraps a secret.
type Source interface {
	// Traits returns what the source can do. It never changes during the life of a Source.
	Traits() Traits
	// Propose creates the material of version ref. It has no effect outside this process. For a Minted source, the material
	// identifies the version and holds no secret.
	Propose(ref Ref) (Material, error)
	// Stage makes the remote system accept the proposed material as version Ref. It is idempotent on Ref.Seq: repeated after a
	// lost answer, it finds the same slot and does no harm. It never changes a slot other than Ref.Slot. If the remote system
	// needs time, it returns fault.Pending, and is called again with the same Change.
	Stage(ctx context.Context, change Change) (Staged, error)
	// Verify uses the material as a client would, over its own connections, and changes nothing. With Unknown the error is the
	// reason; with Rejected it may be the remote system's answer.
	Verify(ctx context.Context, ref Ref, material Material) (Answer, error)
	// Retire makes the remote system refuse version Ref, and checks that it does. A version that does not exist is not an error,
	// and a slot that a newer version uses is not changed. It is final: a Stage of the same version that arrives later, from a
	// process that was paused in between, is refused as fault.Fenced wherever a marker can be kept. A Minted source refuses every
	// secret that it made for the version, including one whose answer was lost: the recorded material may not have it.
	Retire(ctx context.Context, change Change) error
}

// Preflighter is a Source that can check, before it changes anything, whether the remote system can serve the credential at all:
// for a login, whether the owner is allowed and harmless, the logins are absent or ours, and the database exists.
type Preflighter interface {
	// Preflight changes nothing. The error names the unmet condition and has class Blocked or Permanent; it is transient if
	// the check could not be completed. It is called only while there is no version.
	Preflight(ctx context.Context, ref Ref) error
}

// Remover is a Source that can drop what it created (a login, a key). Without it, the deletion of an object retires each recorded
// version instead.
type Remover interface {
	// Remove drops what rekey created for Ref.Slot, and only that; anything else is not changed, and is not an error.
	Remove(ctx context.Context, change Change) error
}

// Marker is what the remote system has recorded about the owner of a slot.
type Marker struct {
	// Exists is true if the login, key or account itself exists.
	Exists bool
	// Owner is the Ref.Owner in the marker; empty if there is no rekey marker.
	Owner string
	// Seq is the version in the marker; 0 if there is none.
	Seq int64
	// Open is true if the login can log in and its version was not retired.
	Open bool
}

// MarkerReader is a Source whose remote system can keep rekey's markers.
type MarkerReader interface {
	// Marker returns the marker of ref.Slot. For a slot without a login it returns the zero Marker and no error.
	Marker(ctx context.Context, ref Ref) (Marker, error)
}

// Heir is a Source whose markers can be handed over to another owner.
type Heir interface {
	// TakeOver changes every marker of former (a Ref.Owner) on the slots of Ref to Ref.Owner, and nothing else: versions,
	// passwords and sessions stay. It is one transaction, which compares each marker with former. A slot without a login or
	// without a marker is not changed; if a slot has a third owner's marker, nothing is changed and the error is fault.Fenced. It
	// is idempotent.
	TakeOver(ctx context.Context, change Change, former string) error
}

// Owned is a Source whose markers can be read and handed over.
type Owned interface {
	MarkerReader
	Heir
}

// Sessions are the clients still connected with one version of a credential.
type Sessions struct {
	// Count is the number of open connections.
	Count int
	// Oldest is when the oldest of them started; zero if the server does not report it.
	Oldest time.Time
	// Clients are up to five distinct application names or addresses, as the server shows them, sorted.
	Clients []string
}

// SessionCounter is a Source that can report who still uses a version.
type SessionCounter interface {
	// Sessions returns the open connections of ref.Slot.
	Sessions(ctx context.Context, ref Ref) (Sessions, error)
}
