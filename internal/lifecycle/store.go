// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"

	"github.com/rekey/rekey/internal/secretstore"
)

// Store records and publishes the versions of one credential. One Store serves one object in one run.
//
// secretstore.Ledgered keeps a ledger and a user's Secret. secretstore.Published has the user's Secret alone: it keeps a pending
// version in memory and writes the Secret when the current version changes.
type Store interface {
	// Load reads live and remembers the resource versions.
	Load(ctx context.Context) (secretstore.Snapshot, error)
	// Save writes the ledger by compare-and-swap on what was last read or written. On a conflict nothing is written, and
	// apierrors.IsConflict or IsAlreadyExists holds for the error.
	Save(ctx context.Context, ledger secretstore.Ledger) (secretstore.Snapshot, error)
	// Publish makes the user's Secret show the current version. It never overwrites a Secret that is not ours.
	Publish(ctx context.Context) (secretstore.Snapshot, error)
	// Withdraw deletes the ledger and the user's Secret or, if the policy says Retain, keeps and labels them.
	Withdraw(ctx context.Context) error
}

// Conflict marks err as a write that lost to another process, or as any other error that must end a run in the same way.
func Conflict(err error) error { return &conflictError{err} }

// IsConflict reports whether Conflict marked err. An error of the remote system never counts.
func IsConflict(err error) bool {
	var c *conflictError
	return errors.As(err, &c)
}

// conflictError is a refused compare-and-swap.
type conflictError struct{ err error }

func (c *conflictError) Error() string { return c.err.Error() }
func (c *conflictError) Unwrap() error { return c.err }
