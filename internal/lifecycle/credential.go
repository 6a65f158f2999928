// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
)

// Credential is one credential, resolved: everything that its kind knows and that the drive needs.
type Credential struct {
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
	// NamespaceEnds reports whether err is a right that is missing because the object's namespace is being deleted. It looks live.
	// Nil where nobody can tell.
	NamespaceEnds func(ctx context.Context, err error) bool
	// LeaveBehind tells what is left behind, before Release removes the finalizer; nil where there is nobody to tell and nothing
	// to remove.
	LeaveBehind func(ctx context.Context, left Remains) error
	Release     func(ctx context.Context) error
	// Endpoint tells apart where the remote end is: a proof holds for one place.
	Endpoint string
	// InputHash changes with everything that may mend a failing step; then the backoff begins anew.
	InputHash string
}
