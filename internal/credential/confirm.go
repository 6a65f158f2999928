// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

type confirmKey struct{}

// Confirming gives a context in which Confirm asks still.
func Confirming(ctx context.Context, still func(context.Context) error) context.Context {
	return context.WithValue(ctx, confirmKey{}, still)
}

// Confirm asks whoever ordered a change whether it is still wanted; the error says why not. A Source asks it in Stage,
// TakeOver, Retire and Remove, at a moment from which on nobody else can change the slot until the change is made (inside the transaction,
// behind the lock), and gives its error back without having changed anything.
//
// A number alone does not tell a process that was stopped for long that its time is over: an object that was deleted and
// made again counts from 1 again.
func Confirm(ctx context.Context) error {
	still, ok := ctx.Value(confirmKey{}).(func(context.Context) error)
	if !ok {
		return nil
	}
	return still(ctx)
}
