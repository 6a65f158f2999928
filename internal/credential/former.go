// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type formerKey struct{}

// WithFormer returns a context for a check before the credential takes over from former (a Ref.Owner): the check then does
// not refuse it because of former's markers.
func WithFormer(ctx context.Context, former string) context.Context {
	return context.WithValue(ctx, formerKey{}, former)
}

// Former returns the owner passed to WithFormer; empty if there is none.
func Former(ctx context.Context) string {
	former, _ := ctx.Value(formerKey{}).(string)
	return former
}
