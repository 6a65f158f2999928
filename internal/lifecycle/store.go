// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"

	"github.com/rekey/rekey/internal/secretstore"
)

// Store is where the versions of one credential are written down and shown. One Store serves one object in one pass.
//
// secretstore.Ledgered keeps a ledger and a user's Secret; secretstore.Published has the user's Secret alone, keeps a
// pending version in memory, and writes the Secret when the current version changes.
type Store interface {
	// Load reads live and remembers the resource versions.
	Load(ctx context.Context) (secretstore.Snapshot, error)
	// Save writes the ledger by compare-and-swap on what was last read or written. A conflict is an error for which
	// apierrors.IsConflict or IsAlreadyExists holds, and nothing was written.
	Save(ctx context.Context, ledger secretstore.Ledger) (secretstore.Snapshot, error)
	// Publish makes the user's Secret show the current version. It never overwrites what is not ours.
	Publish(ctx context.Context) (secretstore.Snapshot, error)
	// Withdraw deletes (or, where the policy says Retain, keeps and labels) the ledger and the user's Secret.
	Withdraw(ctx context.Context) error
}

// Conflict marks err as a write that another process was faster with, or what is to end a pass in the same way.
func Conflict(err error) error { return &conflictError{err} }

// IsConflict tells whether somebody else wrote first. A remote end's error never counts.
func IsConflict(err error) bool {
	var c *conflictError
	return errors.As(err, &c)
}

// conflictError is a refused compare-and-swap.
type conflictError struct{ err error }

func (c *conflictError) Error() string { return c.err.Error() }
func (c *conflictError) Unwrap() error { return c.err }
