// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rekey/rekey/internal/credential"
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

// Faults makes the calls that it is armed for fail. Unarmed, it only counts calls. The zero value is ready to use.
type Faults struct {
	// Choose, if set, returns the mode of each call, by the call's name, before the call; 0 leaves the decision to Arm.
	Choose func(call string) Mode
	// Done, if set, is called after a failed call has returned.
	Done func(call string)
	// Patience is how long LoseAnswer and Hang wait at most before they give up; with 0 they wait until the context ends.
	Patience time.Duration

	mu    sync.Mutex
	calls []string
	armed map[int]Mode
}

// Source returns a source in front of inner, with exactly its powers.
func (f *Faults) Source(inner credential.Source) credential.Intercepted {
	return credential.Intercepted{Source: inner, Call: f.Call}
}

// Arm makes a call fail: 1 is the next one.
func (f *Faults) Arm(call int, mode Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed == nil {
		f.armed = map[int]Mode{}
	}
	f.armed[len(f.calls)+call] = mode
}

// Calls returns the names of all calls so far, in order.
func (f *Faults) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Call counts a call and applies the mode that it is armed with. It returns the error of the fault; nil if there is none.
func (f *Faults) Call(ctx context.Context, name string, do func(context.Context)) error {
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
	lost := fault.Transient(fault.ServerUnreachable, fmt.Errorf("call %d (%s): the connection broke, as the test requested", number, name))
	switch mode {
	case FailBefore:
		return lost
	case FailAfter:
		do(ctx) // the caller has to find out the result
		return lost
	case LoseAnswer:
		do(ctx)
		return f.wait(ctx, number, name)
	case Hang:
		return f.wait(ctx, number, name)
	}
	do(ctx)
	return nil
}

// wait returns the error that a caller gets when the answer never comes.
func (f *Faults) wait(ctx context.Context, number int, name string) error {
	if f.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Patience)
		defer cancel()
	}
	<-ctx.Done()
	return fault.Transient(fault.ServerUnreachable, fmt.Errorf("call %d (%s): %w", number, name, ctx.Err()))
}
