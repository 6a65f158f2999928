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

// Answer is a remote system's answer about a credential. The zero value is Unknown: not asked, not reached and not understood
// are the same, and never count as a rejection.
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

// Traits describe what a source can do. The planner knows nothing else about it.
type Traits struct {
	// Remote is true if a remote system knows the versions: a ledger is kept, and versions are probed and retired. It is false
	// for a certificate that is signed with a key that rekey holds.
	Remote bool
	// Overlap is true if the previous version is accepted until it is retired.
	Overlap bool
	// Slots are the slots that versions use in turn, in order; empty if there is only one.
	Slots []string
	// MaxPasswordLength is in bytes; 0 if there is no password.
	MaxPasswordLength int
	// MaxUsernameLength is the maximum length of the server's login, in bytes; 0 if there is none.
	MaxUsernameLength int
}

// Source puts versions of one credential into effect and retires them. Every method is called with a deadline, and returns
// errors of package fault. No method prints or wraps a secret.
type Source interface {
	// Stage makes the remote system accept the proposed material as version ref, and returns the material to publish
	// (proposed, completed with what the remote system adds). It is idempotent on ref.Seq: repeated after a lost answer, it
	// finds the same slot and does no harm. It never changes a slot other than ref.Slot.
	Stage(ctx context.Context, ref Ref, proposed Material) (Material, error)
	// Verify uses the material as a client would, over its own connections, and changes nothing. With Unknown the error is the
	// reason; with Rejected it may be the remote system's answer.
	Verify(ctx context.Context, ref Ref, material Material) (Answer, error)
	// Retire makes the remote system refuse version ref, and checks that it does. A version that does not exist is no error, and
	// a slot that a newer version uses is not changed. It is final: a Stage of the same version that arrives later, from a
	// process that was paused in between, is refused as fault.Fenced wherever a marker can be kept.
	Retire(ctx context.Context, ref Ref) error
	// Traits returns what the source can do. It never changes during the life of a Source.
	Traits() Traits
}

// Remover is a Source that can drop what it created (a login, a key).
type Remover interface {
	// Remove drops what rekey created for ref.Slot, and only that; anything else is not changed, and is no error.
	Remove(ctx context.Context, ref Ref) error
}

// Marker is what the remote system has recorded about the owner of a slot.
type Marker struct {
	// Exists is true if the login, key or account itself exists.
	Exists bool
	// Owner is the Ref.Owner in the marker; empty if there is no marker of rekey.
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
	// TakeOver changes every marker of former (a Ref.Owner) on the slots of ref to ref.Owner, and nothing else: versions,
	// passwords and sessions stay. It is one transaction, in which each marker is compared with former. A slot without a login or
	// without a marker is not changed; if a slot has the marker of a third owner, nothing is changed and the error is
	// fault.Fenced. It is idempotent.
	TakeOver(ctx context.Context, ref Ref, former string) error
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
