// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import "context"

// Turn is a mutex around a request to the API server, which may take arbitrarily long: a caller stops waiting when its context ends.
type Turn chan struct{}

// NewTurn returns a free turn.
func NewTurn() Turn { return make(Turn, 1) }

// Take acquires the turn, or returns an error when ctx ends.
func (t Turn) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Give releases the turn.
func (t Turn) Give() { <-t }
