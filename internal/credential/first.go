// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type firstKey struct{}

// First returns a context for a Verify before the first version of a credential is published, or before its lost ledger is
// rebuilt. A Source may then check more than it usually does.
func First(ctx context.Context) context.Context { return context.WithValue(ctx, firstKey{}, true) }

// IsFirst reports whether First returned ctx or a parent of it.
func IsFirst(ctx context.Context) bool { return ctx.Value(firstKey{}) != nil }
