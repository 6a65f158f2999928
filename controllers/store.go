// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// Snapshot is what a Store holds now: what is written down, and what the user sees.
type Snapshot struct {
	// Ledger is what is written down. The caller changes a clone of it, never this one.
	Ledger secretstore.Ledger
	// Target is what the user's Secret shows, compared with the ledger's current version and with what the spec wants
	// of the Secret (type, keys, labels, annotations, owner).
	Target rotation.TargetState
	// Conflict says who has the user's Secret, and what to do; only with TargetForeign.
	Conflict string
}

// Store is where the versions of one credential are written down and shown. One Store serves one object in one pass.
//
// secretstore.Ledgered keeps a ledger and a user's Secret; secretstore.Published has the user's Secret alone, keeps a
// pending version in memory, and writes the Secret when the current version changes.
type Store interface {
	// Load reads live and remembers the resource versions.
	Load(ctx context.Context) (Snapshot, error)
	// Save writes the ledger by compare-and-swap on what was last read or written. A conflict is an error for which
	// apierrors.IsConflict or IsAlreadyExists holds, and nothing was written.
	Save(ctx context.Context, ledger secretstore.Ledger) (Snapshot, error)
	// Project makes the user's Secret show the current version. It never overwrites what is not ours.
	Project(ctx context.Context) (Snapshot, error)
	// Withdraw deletes (or, where the policy says Retain, keeps and labels) the ledger and the user's Secret.
	Withdraw(ctx context.Context) error
}
