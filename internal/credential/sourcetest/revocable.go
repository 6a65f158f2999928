// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"errors"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

var revocable = []promise{
	{"a retired version is refused, permanently and repeatedly", (*Suite).retired},
	{"retiring a version that does not exist changes nothing", (*Suite).retiredNothing},
	{"a slot serves again after it was retired", (*Suite).reused},
	{"a candidate that is discarded takes nothing with it", (*Suite).discarded},
	{"a change that is no longer wanted is not made", (*Suite).unwanted},
}

// recorded is what holds for a source whose versions are recorded before they are staged: another process can take over in between.
var recorded = []promise{
	{"a version that is no longer wanted is not staged", (*Suite).unwantedStage},
}

var irrevocable = []promise{
	{"retiring changes nothing, because nothing can be refused", (*Suite).neverRetired},
}

func (s *Suite) neverRetired(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	live := s.stage(t, on, ref(1, s.a))
	s.MustNot(t, on.Retire(s.Context(t), live.change()))
	s.wantAnswer(t, on, live, credential.Accepted)
}

func (s *Suite) retired(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	first := s.stage(t, on, ref(1, s.a))
	second := s.stage(t, on, ref(2, s.b))
	for range 2 {
		s.MustNot(t, on.Retire(s.Context(t), first.change()))
		s.wantAnswer(t, on, first, credential.Rejected)
		s.wantAnswer(t, on, second, credential.Accepted)
	}
	s.wantAccepts(t, subject, first.material, false)
	s.wantAccepts(t, subject, second.material, true)
	if s.a != s.b {
		s.wantMarker(t, on, first.ref, marked(first.ref))
		s.wantOpen(t, on, first.ref, false)
		s.wantOpen(t, on, second.ref, true)
	}
}

func (s *Suite) retiredNothing(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	never := version{ref(1, s.a), s.propose(t, on, ref(1, s.a))}
	s.MustNot(t, on.Retire(s.Context(t), never.change()))
	s.wantMarker(t, on, never.ref, credential.Marker{})
	live := s.stage(t, on, ref(3, s.a))
	s.MustNot(t, on.Retire(s.Context(t), never.change())) // a slot that a later version uses
	s.wantAnswer(t, on, live, credential.Accepted)
	s.wantMarker(t, on, live.ref, marked(live.ref))
}

func (s *Suite) reused(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	first := s.stage(t, on, ref(1, s.a))
	s.MustNot(t, on.Retire(s.Context(t), first.change()))
	third := s.stage(t, on, ref(3, s.a))
	s.wantAnswer(t, on, third, credential.Accepted)
	s.wantAnswer(t, on, first, credential.Rejected)
}

func (s *Suite) discarded(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	current := s.stage(t, on, ref(1, s.a))
	candidate := s.stage(t, on, ref(2, s.b))
	s.MustNot(t, on.Retire(s.Context(t), candidate.change()))
	s.wantAnswer(t, on, candidate, credential.Rejected)
	s.wantAnswer(t, on, current, credential.Accepted)
}

// unwantedStage tests a process that was stopped for a long time between recording a version and staging it.
func (s *Suite) unwantedStage(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	published := s.stage(t, on, ref(2, s.a))
	over := errors.New("another process continued")
	asked := 0
	change := credential.Change{Ref: ref(3, s.a), Material: s.propose(t, on, ref(3, s.a)), StillWanted: func(context.Context) error {
		asked++
		return fault.Transient(fault.APIServerFailed, over)
	}}
	_, err := on.Stage(s.Context(t), change)
	s.Heard(err)
	if !errors.Is(err, over) || asked != 1 {
		t.Errorf("Stage asked %d times and returned %v, want once, and the error of the check", asked, err)
	}
	s.wantAnswer(t, on, published, credential.Accepted)
	s.wantMarker(t, on, published.ref, marked(published.ref))
	if s.Traits.Provable && !s.Traits.Minted {
		s.wantAnswer(t, on, version{change.Ref, change.Material}, credential.Rejected)
	}
	change.StillWanted = func(context.Context) error { asked++; return nil }
	s.wantAnswer(t, on, s.stageChange(t, on, change), credential.Accepted)
	if asked < 2 {
		t.Error("a version that is wanted was staged without asking")
	}
}

// unwanted tests a process that was stopped for a long time: the check before each change shows that it is no longer wanted.
func (s *Suite) unwanted(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	published := s.stage(t, on, ref(2, s.a))
	over := errors.New("another process continued")
	asked := 0
	late := func(change credential.Change) credential.Change {
		change.StillWanted = func(context.Context) error {
			asked++
			return fault.Transient(fault.APIServerFailed, over)
		}
		return change
	}
	ctx := s.Context(t)
	calls := map[string]error{"Retire": on.Retire(ctx, late(published.change()))}
	if as, ok := credential.As[credential.Remover](on); ok {
		calls["Remove"] = as.Remove(ctx, late(published.change()))
	}
	if as, ok := credential.As[credential.Heir](on); ok {
		calls["TakeOver"] = as.TakeOver(ctx, late(credential.Change{Ref: foreign(2, s.a)}), published.ref.Owner())
	}
	for call, err := range calls {
		s.Heard(err)
		if !errors.Is(err, over) {
			t.Errorf("%s returned %v, want the error of the check", call, err)
		}
	}
	if asked != len(calls) {
		t.Errorf("asked %d times, want once for each of %d changes", asked, len(calls))
	}
	s.wantAnswer(t, on, published, credential.Accepted)
	s.wantMarker(t, on, published.ref, marked(published.ref))
	wanted := published.change()
	wanted.StillWanted = func(context.Context) error { return nil }
	s.MustNot(t, on.Retire(ctx, wanted))
	s.wantAnswer(t, on, published, credential.Rejected)
	if as, ok := credential.As[credential.Remover](on); ok {
		s.MustNot(t, as.Remove(ctx, wanted))
		s.wantMarker(t, on, published.ref, credential.Marker{})
	}
}
