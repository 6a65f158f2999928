// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type confirmKey struct{}

// Confirming returns a context in which Confirm calls still.
func Confirming(ctx context.Context, still func(context.Context) error) context.Context {
	return context.WithValue(ctx, confirmKey{}, still)
}

// Confirm checks that a change is still wanted by its caller; the error is the reason if it is not. A Source calls it in Stage,
// TakeOver, Retire and Remove at a point from which no other process can change the slot until the change is made (inside the
// transaction, while holding the lock), and returns its error without having changed anything.
//
// A number alone does not show a process that was paused for long that it is out of date: an object that was deleted and
// recreated counts from 1 again.
func Confirm(ctx context.Context) error {
	still, ok := ctx.Value(confirmKey{}).(func(context.Context) error)
	if !ok {
		return nil
	}
	return still(ctx)
}
