// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type confirmKey struct{}

// Confirming returns a context in which Confirm calls still.
func Confirming(ctx context.Context, still func(context.Context) error) context.Context {
	return context.WithValue(ctx, confirmKey{}, still)
}

// Confirm checks that the caller still wants a change; if not, the error is the reason. A Source calls it in Stage,
// TakeOver, Retire and Remove at a point from which no other process can change the slot until the change is made (inside
// the transaction, while holding the lock), and returns its error without having changed anything.
//
// A number alone does not show a long-paused process that it is out of date: an object that was deleted and recreated counts
// from 1 again.
func Confirm(ctx context.Context) error {
	still, ok := ctx.Value(confirmKey{}).(func(context.Context) error)
	if !ok {
		return nil
	}
	return still(ctx)
}
