// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import "context"

// Wrapper is a Source in front of another one. It implements every optional interface by passing calls on. Unwrap returns the
// wrapped source, which determines which of these interfaces count: As takes that into account.
type Wrapper interface {
	Source
	Unwrap() Source
}

// As returns a source as a T, one of the optional interfaces. ok is false if the source, or one that it wraps, does not implement T.
func As[T any](source Source) (as T, ok bool) {
	if wrapper, wraps := source.(Wrapper); wraps {
		if _, ok := As[T](wrapper.Unwrap()); !ok {
			return as, false
		}
	}
	as, ok = source.(T)
	return as, ok
}

// Intercepted is a Source that runs every call through a function, where failpoints and faults are injected. According to As, it has
// exactly the optional interfaces of the wrapped source.
type Intercepted struct {
	Source

	// Call receives every call that takes a context, with the call's name. It may run do, which performs the call, any number of
	// times. If it returns an error, the caller gets that error and nothing else.
	Call func(ctx context.Context, name string, do func(context.Context)) error
}

var (
	_ Wrapper        = Intercepted{}
	_ Remover        = Intercepted{}
	_ Owned          = Intercepted{}
	_ SessionCounter = Intercepted{}
	_ Preflighter    = Intercepted{}
)

// Unwrap implements Wrapper.
func (s Intercepted) Unwrap() Source { return s.Source }

func intercept[T any](ctx context.Context, s Intercepted, name string, call func(context.Context) (T, error)) (T, error) {
	var out, nothing T
	var err error
	if instead := s.Call(ctx, name, func(ctx context.Context) { out, err = call(ctx) }); instead != nil {
		return nothing, instead
	}
	return out, err
}

func (s Intercepted) intercept(ctx context.Context, name string, call func(context.Context) error) error {
	_, err := intercept(ctx, s, name, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// behind returns the wrapped source as a T. The caller knows from As that it is one.
func behind[T any](s Intercepted) T {
	as, _ := As[T](s.Source)
	return as
}

// Stage implements Source.
func (s Intercepted) Stage(ctx context.Context, change Change) (Staged, error) {
	return intercept(ctx, s, "Stage", func(ctx context.Context) (Staged, error) { return s.Source.Stage(ctx, change) })
}

// Verify implements Source.
func (s Intercepted) Verify(ctx context.Context, ref Ref, material Material) (Answer, error) {
	return intercept(ctx, s, "Verify", func(ctx context.Context) (Answer, error) { return s.Source.Verify(ctx, ref, material) })
}

// Retire implements Source.
func (s Intercepted) Retire(ctx context.Context, change Change) error {
	return s.intercept(ctx, "Retire", func(ctx context.Context) error { return s.Source.Retire(ctx, change) })
}

// Remove implements Remover.
func (s Intercepted) Remove(ctx context.Context, change Change) error {
	return s.intercept(ctx, "Remove", func(ctx context.Context) error { return behind[Remover](s).Remove(ctx, change) })
}

// Preflight implements Preflighter.
func (s Intercepted) Preflight(ctx context.Context, ref Ref) error {
	return s.intercept(ctx, "Preflight", func(ctx context.Context) error { return behind[Preflighter](s).Preflight(ctx, ref) })
}

// Marker implements MarkerReader.
func (s Intercepted) Marker(ctx context.Context, ref Ref) (Marker, error) {
	return intercept(ctx, s, "Marker", func(ctx context.Context) (Marker, error) { return behind[MarkerReader](s).Marker(ctx, ref) })
}

// TakeOver implements Heir.
func (s Intercepted) TakeOver(ctx context.Context, change Change, former string) error {
	return s.intercept(ctx, "TakeOver", func(ctx context.Context) error { return behind[Heir](s).TakeOver(ctx, change, former) })
}

// Sessions implements SessionCounter.
func (s Intercepted) Sessions(ctx context.Context, ref Ref) (Sessions, error) {
	return intercept(ctx, s, "Sessions", func(ctx context.Context) (Sessions, error) { return behind[SessionCounter](s).Sessions(ctx, ref) })
}
