// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import "context"

// Turn is a mutex around a request to the API server, which may take as long as it likes: a caller whose context ends stops
// waiting for it.
type Turn chan struct{}

// NewTurn returns a turn that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take waits until it is the caller's turn, or until ctx ends.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Give ends the caller's turn.
func (t Turn) Give() { <-t }
