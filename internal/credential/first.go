// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type firstKey struct{}

// First returns a context for a Verify before the first version of a credential is published, or before its lost ledger is
// rebuilt. A Source may then look at more than it does every time.
func First(ctx context.Context) context.Context { return context.WithValue(ctx, firstKey{}, true) }

// IsFirst reports whether ctx is one of First.
func IsFirst(ctx context.Context) bool { return ctx.Value(firstKey{}) != nil }
