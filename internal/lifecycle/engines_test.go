// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/secondengine"
	"github.com/rekey/rekey/test/size"
)

// The engine of the tests and the fake by traits are remote systems of this world, too. They keep no markers: what protects them
// is that changes of one login wait for each other, and that each change is confirmed against the ledger.

// host is a remote system with one credential. Its sources are those that pass the suites of package sourcetest.
type host struct {
	source  credential.Source
	accepts func(credential.Material) bool
	// open returns how many secrets are accepted.
	open func() int
	// backup returns a function that restores the present state.
	backup func() (restore func())
}

// hostOf returns an empty remote system for a kind that has one; nil for the other kinds.
func hostOf(k kind) *host {
	switch k {
	case pair:
		engine := secondengine.New()
		session, err := engine.Open(background, database.Server{Host: "pair.data", Port: 4711}, database.Target{
			Username: "orders", Strategy: secondengine.DualPassword, Create: true, PasswordLength: 24, PasswordAlphabet: "Alphanumeric",
		})
		if err != nil {
			panic(err)
		}
		return &host{
			source: session, backup: engine.Backup, open: func() int { return engine.Passwords("orders") },
			accepts: func(m credential.Material) bool {
				return engine.Accepts(m.String(credential.KeyUsername), m.String(credential.KeyPassword))
			},
		}
	case fakeOneSlot, fakeTwoSlots, fakeMinted:
		fake := &sourcetest.Fake{Traits: traitsOf[k]}
		return &host{
			source: fake.Source("orders"), backup: fake.Backup, open: func() int { return fake.Secrets("orders") },
			accepts: func(m credential.Material) bool { return fake.Accepts("orders", m.String(credential.KeyPassword)) },
		}
	case twoSlots, certificate, late, proven, minted:
	}
	return nil
}

// hosted is the source of a host, each call an effect.
type hosted struct{ *world }

func (s *hosted) Traits() credential.Traits { return s.host.source.Traits() }

func (s *hosted) Propose(ref credential.Ref) (credential.Material, error) {
	return s.host.source.Propose(ref)
}

func (s *hosted) Preflight(ctx context.Context, ref credential.Ref) error {
	if err := s.preflight(); err != nil {
		return err
	}
	preflighter, ok := credential.As[credential.Preflighter](s.host.source)
	if !ok {
		return nil
	}
	return preflighter.Preflight(ctx, ref)
}

// Stage implements credential.Source.
func (s *hosted) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	var out credential.Staged
	err := s.change(ctx, "stage", change, func(change credential.Change) (err error) {
		out, err = s.host.source.Stage(background, change)
		if err == nil {
			s.numbers[out.Material.String(credential.KeyPassword)] = change.Ref.Seq
		}
		return err
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return out, nil
}

// change makes a change. The host asks only before it whether the change is still wanted: a call that it holds happens anyway.
func (s *hosted) change(ctx context.Context, kind string, change credential.Change, apply func(credential.Change) error) error {
	if err := (&server{s.world}).reach(); err != nil {
		return err
	}
	s.confirm = func() error { return change.Confirm(ctx) }
	held := change
	held.StillWanted = nil
	return s.effect(kind, "host", func() error {
		if s.underWay("host") {
			return fault.Transient(fault.LockTimeout, errors.New("a change is still under way"))
		}
		return apply(held)
	})
}

func (s *hosted) Verify(_ context.Context, ref credential.Ref, m credential.Material) (credential.Answer, error) {
	if err := (&server{s.world}).reach(); err != nil {
		return credential.Unknown, err
	}
	answer := credential.Unknown
	err := s.effect("verify", "host?", func() (err error) {
		answer, err = s.host.source.Verify(background, ref, m)
		switch {
		case answer == credential.Accepted && !s.accepts(m):
			answer = credential.Rejected
		case answer == credential.Accepted:
			s.watch.proven[m.String(credential.KeyPassword)] = true
		case s.underWay("host"):
			answer = credential.Unknown
			return fault.Pending(lateMost, errors.New("a change is still under way"))
		}
		return err
	}, func() { answer = credential.Accepted })
	if err != nil {
		return credential.Unknown, err
	}
	return answer, nil
}

func (s *hosted) Retire(ctx context.Context, change credential.Change) error {
	return s.change(ctx, "retire", change, func(change credential.Change) error {
		return s.host.source.Retire(background, change)
	})
}

// Remove implements credential.Remover.
func (s *hosted) Remove(ctx context.Context, change credential.Change) error {
	remover, ok := credential.As[credential.Remover](s.host.source)
	if !ok {
		return fmt.Errorf("%T is not a Remover", s.host.source)
	}
	return s.change(ctx, "remove", change, func(change credential.Change) error { return remover.Remove(background, change) })
}

// lookAtHost is I2 of a host: the ledger knows each secret that is accepted.
func (k *watch) lookAtHost(w *world) {
	if w.host == nil {
		return
	}
	l, known := w.ledger.ledger, 0
	for _, r := range []*secretstore.Record{l.Pending, l.Current, l.Previous} {
		if r != nil && w.host.accepts(r.Material) {
			known++
		}
	}
	if open := w.host.open(); open > known && !(l.Pending != nil && w.traits().Minted) { // a minted secret is not known before Staged
		k.breach(w, "I2: %d secrets are accepted, and the ledger knows %d of them", open, known)
	}
}

// hostedKinds are the kinds with a host.
var hostedKinds = []kind{pair, fakeOneSlot, fakeTwoSlots, fakeMinted}

// sampled returns some of the trials unless the full size is wanted. A login with two slots is always played whole: the planner and
// the driver of the other kinds are the same. Of the kinds without a host, make test alone plays a sample.
func (s scenario) sampled(t *testing.T, some int, all iter.Seq[trial]) func(func(trial) bool) {
	t.Helper()
	if s.kind == twoSlots {
		return all
	}
	if !slices.Contains(hostedKinds, s.kind) {
		some = size.Choose(some, math.MaxInt, math.MaxInt)
	}
	return slices.Values(size.Sample(size.RandomFrom(t, 1), slices.Collect(all), some, func(tr trial) int { return len(tr.plan) }))
}
