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
	// Cluster is the UID of the kube-system namespace: a restored or cloned cluster is told from this one by it.
	Cluster string
	// Namespace and Name are those of the custom resource.
	Namespace, Name string
	// Seq counts the versions of the credential, from 1. It never goes back.
	Seq int64
	// Slot says which of the places of a source with several slots the version lives in: "a" or "b"; empty where
	// there is one place only.
	Slot string
}

// Owner is the credential's name without a version, in the form that markers hold: cluster/namespace/name.
func (r Ref) Owner() string { return strings.Join([]string{r.Cluster, r.Namespace, r.Name}, "/") }

// String shows the version for logs and errors.
func (r Ref) String() string {
	return fmt.Sprintf("%s/%s version %d (slot %q)", r.Namespace, r.Name, r.Seq, r.Slot)
}

// Answer is what a remote end says of a credential. The zero value is Unknown: not having asked, not having reached
// anybody and not having understood the answer are all the same, and are never a refusal.
type Answer int

const (
	// Unknown means that nobody answered, or not clearly. It justifies nothing but asking again.
	Unknown Answer = iota
	// Accepted means that the credential was used as a client uses it, and worked.
	Accepted
	// Rejected means that the remote end was reached, judged the credential, and refused it, and that no change of
	// ours is still under way there.
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

// Traits says what a source can do. The planner reads nothing else about it.
type Traits struct {
	// Remote is true where a version is known to some other system: a ledger is kept, versions are probed and
	// retired. False for a certificate that is signed with a key that we hold.
	Remote bool
	// Overlap is true where the previous version goes on being accepted until it is retired.
	Overlap bool
	// Slots are the places that versions take in turn, in order; empty where there is one place.
	Slots []string
	// MaxPasswordLength in bytes; 0 where there is no password.
	MaxPasswordLength int
	// MaxUsernameLength in bytes, of the login as the server knows it; 0 where there is none.
	MaxUsernameLength int
}

// Source makes versions of one credential come true, and takes them away. Every method is called with a deadline, and
// reports failure as an error of package fault. No method prints or wraps a secret.
type Source interface {
	// Stage makes the remote end accept the proposed material as version ref, and gives the material to publish
	// (proposed, completed with what the remote end adds). It is idempotent on ref.Seq: repeated after a lost
	// answer it finds the same place and does no harm. It never touches another slot than ref.Slot.
	Stage(ctx context.Context, ref Ref, proposed Material) (Material, error)
	// Verify uses the material the way a client would, over connections of its own, and changes nothing. With
	// Unknown the error says why; with Rejected it may say what the remote end said.
	Verify(ctx context.Context, ref Ref, material Material) (Answer, error)
	// Retire makes the remote end refuse version ref, and checks that it does. A version that is not there is no error,
	// and a slot that a newer version lives in is left alone. It is final: a Stage of the same version that arrives
	// later, from somebody who was stopped in between, is refused as fault.Fenced wherever a mark can be kept.
	Retire(ctx context.Context, ref Ref) error
	// Traits says what the source can do. It never changes during the life of a Source.
	Traits() Traits
}

// Remover is a Source that can drop what it made (a login, a key) altogether.
type Remover interface {
	// Remove drops what we made for ref.Slot, and only that; what somebody else made is left alone, and no error.
	Remove(ctx context.Context, ref Ref) error
}

// Marker is what the remote end has written down about the owner of a slot.
type Marker struct {
	// Exists is true where the login, key or account itself is there.
	Exists bool
	// Owner is the Ref.Owner that the mark names; empty where there is no mark of ours.
	Owner string
	// Seq is the version that the mark names; 0 where there is none.
	Seq int64
	// Open is true where the login may log in, and its version was not retired.
	Open bool
}

// Marked is a Source whose remote end can hold a mark of ours.
type Marked interface {
	// Marker reads the mark of ref.Slot. A slot without a login is the zero Marker, and no error.
	Marker(ctx context.Context, ref Ref) (Marker, error)
}

// Heir is a Source whose marks can be handed over to another owner.
type Heir interface {
	// TakeOver makes every mark of former (a Ref.Owner) on the slots of ref that of ref.Owner, and nothing else: versions,
	// passwords and sessions stay. All of it is one transaction, in which the mark is compared with former. A slot without
	// a login or without a mark is left alone; where a slot has the mark of a third owner, nothing is changed and the error
	// is fault.Fenced. Done twice it does nothing the second time.
	TakeOver(ctx context.Context, ref Ref, former string) error
}

// Owned is a Source whose marks can be read and handed over.
type Owned interface {
	Marked
	Heir
}

// Sessions is who is still connected with one version of a credential.
type Sessions struct {
	// Count of open connections.
	Count int
	// Oldest is when the oldest of them began; zero where the server does not say.
	Oldest time.Time
	// Clients are up to five distinct application names or addresses, as the server shows them, sorted.
	Clients []string
}

// Counter is a Source that can tell who still uses a version.
type Counter interface {
	// Sessions counts the open connections of ref.Slot.
	Sessions(ctx context.Context, ref Ref) (Sessions, error)
}
