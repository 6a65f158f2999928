// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import "context"

// turn is a mutex for whoever asks the API server, which may take as long as it likes: a caller whose context ends stops waiting
// for it.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits until it is the caller's turn, or until ctx ends.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// give ends the caller's turn.
func (t turn) give() { <-t }
