// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
)

// Mode is the way in which a call fails.
type Mode int

const (
	// FailBefore returns an error, and the call has no effect.
	FailBefore Mode = iota + 1
	// FailAfter lets the call have its effect and then returns an error.
	FailAfter
	// LoseAnswer lets the call have its effect and then returns nothing until the context ends.
	LoseAnswer
	// Hang returns nothing until the context ends, and the call has no effect.
	Hang
)

// Faulty wraps an engine and makes the calls fail that it is armed for. Unarmed, it only counts calls.
type Faulty struct {
	// Choose, if set, returns the mode of each call, by the call's name, before the call; 0 leaves the decision to Arm.
	Choose func(call string) Mode
	// Done, if set, is called when a call that was made to fail has returned.
	Done func(call string)
	// Patience is how long LoseAnswer and Hang wait at most before they give up; with 0 they wait until the context ends.
	Patience time.Duration

	inner database.Engine

	mu    sync.Mutex
	calls []string
	armed map[int]Mode
}

// NewFaulty wraps an engine with sessions that implement every optional interface.
func NewFaulty(inner database.Engine) *Faulty {
	return &Faulty{inner: inner, armed: map[int]Mode{}}
}

// Arm makes a call fail: 1 is the next one.
func (f *Faulty) Arm(call int, mode Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed[len(f.calls)+call] = mode
}

// Calls returns the names of all calls so far, in order.
func (f *Faulty) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Traits implements database.Engine.
func (f *Faulty) Traits() credential.Traits { return f.inner.Traits() }

// Open implements database.Engine. It is not counted: it has no effect on the server.
func (f *Faulty) Open(ctx context.Context, target database.Target) (database.Session, error) {
	session, err := f.inner.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	full, ok := session.(powers)
	if !ok {
		session.Close()
		return nil, errors.New("wrapping a session: it lacks one of the optional powers")
	}
	return &faultySession{powers: full, faulty: f}, nil
}

// Check implements database.Engine.
func (f *Faulty) Check(ctx context.Context, server database.Server) (database.Report, error) {
	return spoil(ctx, f, "Check", func() (database.Report, error) { return f.inner.Check(ctx, server) })
}

// powers is a session with every optional interface.
type powers interface {
	database.Session
	credential.Preflighter
	credential.Remover
	credential.Owned
	credential.SessionCounter
}

type faultySession struct {
	powers
	faulty *Faulty
}

// spoil counts a call and applies the mode that it is armed with.
func spoil[T any](ctx context.Context, f *Faulty, name string, call func() (T, error)) (T, error) {
	f.mu.Lock()
	f.calls = append(f.calls, name)
	number := len(f.calls)
	mode := f.armed[number]
	f.mu.Unlock()
	if f.Choose != nil {
		if chosen := f.Choose(name); chosen != 0 {
			mode = chosen
		}
	}
	if mode != 0 && f.Done != nil {
		defer f.Done(name)
	}
	var nothing T
	lost := fault.Transient(fault.ServerUnreachable, fmt.Errorf("call %d (%s): the connection broke, as the test requested", number, name))
	switch mode {
	case FailBefore:
		return nothing, lost
	case FailAfter:
		_, _ = call() // the caller has to find out what came of it
		return nothing, lost
	case LoseAnswer:
		_, _ = call()
		return nothing, f.wait(ctx, number, name)
	case Hang:
		return nothing, f.wait(ctx, number, name)
	}
	return call()
}

// wait returns the error that a caller gets when the answer never comes.
func (f *Faulty) wait(ctx context.Context, number int, name string) error {
	if f.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Patience)
		defer cancel()
	}
	<-ctx.Done()
	return fault.Transient(fault.ServerUnreachable, fmt.Errorf("call %d (%s): %w", number, name, ctx.Err()))
}

// Stage implements credential.Source.
func (s *faultySession) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	return spoil(ctx, s.faulty, "Stage", func() (credential.Staged, error) { return s.powers.Stage(ctx, change) })
}

// Verify implements credential.Source.
func (s *faultySession) Verify(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Answer, error) {
	return spoil(ctx, s.faulty, "Verify", func() (credential.Answer, error) { return s.powers.Verify(ctx, ref, material) })
}

// Retire implements credential.Source.
func (s *faultySession) Retire(ctx context.Context, change credential.Change) error {
	return s.spoil(ctx, "Retire", func() error { return s.powers.Retire(ctx, change) })
}

// Remove implements credential.Remover.
func (s *faultySession) Remove(ctx context.Context, change credential.Change) error {
	return s.spoil(ctx, "Remove", func() error { return s.powers.Remove(ctx, change) })
}

// Preflight implements credential.Preflighter.
func (s *faultySession) Preflight(ctx context.Context, ref credential.Ref) error {
	return s.spoil(ctx, "Preflight", func() error { return s.powers.Preflight(ctx, ref) })
}

func (s *faultySession) spoil(ctx context.Context, name string, call func() error) error {
	_, err := spoil(ctx, s.faulty, name, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Marker implements credential.MarkerReader.
func (s *faultySession) Marker(ctx context.Context, ref credential.Ref) (credential.Marker, error) {
	return spoil(ctx, s.faulty, "Marker", func() (credential.Marker, error) { return s.powers.Marker(ctx, ref) })
}

// Sessions implements credential.SessionCounter.
func (s *faultySession) Sessions(ctx context.Context, ref credential.Ref) (credential.Sessions, error) {
	return spoil(ctx, s.faulty, "Sessions", func() (credential.Sessions, error) { return s.powers.Sessions(ctx, ref) })
}

// TakeOver implements credential.Heir.
func (s *faultySession) TakeOver(ctx context.Context, change credential.Change, former string) error {
	return s.spoil(ctx, "TakeOver", func() error { return s.powers.TakeOver(ctx, change, former) })
}
