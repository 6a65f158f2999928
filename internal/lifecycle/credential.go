// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
)

// Credential is one credential, resolved: everything that its kind knows and the driver needs.
type Credential struct {
	// Kind of the object. Ref has no Seq and no Slot.
	Kind string
	Ref  credential.Ref
	// Former is the owner from which a user allows the object to take over, in the form of Ref.Owner; empty for none.
	Former string
	// FormerGone returns an error unless the object that Former names is gone, as far as that can be known: an object of another
	// cluster cannot be checked. It reads live. Nil if there is nothing to check.
	FormerGone func(ctx context.Context, former string) error
	// UID of the object.
	UID string
	// Policy is resolved. Traits are those of the source, known even if the source could not be opened.
	Policy rotation.Policy
	Traits credential.Traits
	// TraitsUnknown is true if nothing could tell the traits, so that they are zero: the remote system may hold versions anyway.
	TraitsUnknown bool
	// Fingerprint of the fields of the spec that require new material.
	Fingerprint string
	// Store records and publishes the versions.
	Store Store
	// Source puts the versions into effect. It is nil if it could not be opened; SourceErr then holds the reason, and every step that
	// needs the source fails with it.
	Source    credential.Source
	SourceErr error
	// Preconditions are those known not to hold. Drive adds a target Secret of another owner.
	Preconditions []rotation.Unmet
	// Unowned is the reason why it cannot be decided whether the Secrets belong to the object or are copies from another cluster; nil
	// if it can. Until then nothing is created or changed, except by a deletion; what is published stays.
	Unowned error
	// Unchanged returns an error, which ends the run, if the object has changed since it was read. It reads live, because a cache
	// may be old. Unless the store rules out such a change, the driver calls it before it acts on anything in the object that does
	// not follow from time alone: a first version, a changed spec, a request. Nil if the object cannot have changed.
	Unchanged func(ctx context.Context) error
	// Rotate and RetirePrevious are the values of the annotations.
	Rotate, RetirePrevious string
	// Deleting and Suspended are states of the object. Delete is true if its deletion policy is Delete.
	Deleting, Suspended, Delete bool
	// Served reports whether the status says that a version was ever published: then something may be left to remove, even if the
	// ledger is lost.
	Served bool
	// WithdrawDeadline is when a deleted object is released even if it could not be cleaned up, by the API server's clock.
	WithdrawDeadline time.Time
	// NamespaceEnds reports whether err is a right that is missing because the object's namespace is being deleted. It reads live. Nil
	// if that cannot be known.
	NamespaceEnds func(ctx context.Context, err error) bool
	// ReportRemains reports what could not be cleaned up, before Release removes the finalizer. Both are nil if there is nothing to
	// report and nothing to remove.
	ReportRemains func(ctx context.Context, left Remains) error
	Release       func(ctx context.Context) error
	// Endpoint identifies where the remote system is: a proof holds for one endpoint.
	Endpoint string
	// InputHash changes with everything that can make a failing step succeed; the backoff then starts over.
	InputHash string
}

// preflight asks the source whether it can serve the credential, if the source can answer that.
func (s Credential) preflight(ctx context.Context, ref credential.Ref, timeout time.Duration) error {
	preflighter, ok := credential.As[credential.Preflighter](s.Source)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return preflighter.Preflight(ctx, ref)
}
