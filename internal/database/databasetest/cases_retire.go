// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"errors"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

func (s *suite) retired(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	second := s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	for range 2 {
		s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}))
		s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
		s.wantAnswer(t, on, ref(2, "b"), second, credential.Accepted)
	}
	if s.Accepts(t, target, first.String(credential.KeyUsername), first.String(credential.KeyPassword)) {
		t.Error("a client can log in with the retired login")
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: ref(1, "a").Owner(), Seq: 1})
	s.wantOpen(t, on, ref(1, "a"), false)
	s.wantOpen(t, on, ref(2, "b"), true)
}

func (s *suite) retiredElsewhere(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}))
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
	live := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")})) // a slot that a later version uses
	s.wantAnswer(t, on, ref(3, "a"), live, credential.Accepted)
	s.wantMarker(t, on, ref(3, "a"), credential.Marker{Exists: true, Owner: ref(3, "a").Owner(), Seq: 3})
}

// final tests that retiring is final: neither the version nor an earlier one comes back, not even by a Stage that was in
// progress.
func (s *suite) final(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	first := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(5, "a")})) // retiring a version that never reached the slot retires the one in it
	for _, seq := range []int64{3, 4, 5} {
		_, err := on.Stage(s.context(t), credential.Change{Ref: ref(seq, "a"), Material: s.propose(t, target, "a")})
		s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	}
	s.wantAnswer(t, on, ref(3, "a"), first, credential.Rejected)
	next := s.stage(t, on, ref(6, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(6, "a"), next, credential.Accepted)
}

func (s *suite) reused(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}))
	third := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(3, "a"), third, credential.Accepted)
	s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
}

func (s *suite) removed(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.mustNot(t, on.Remove(s.context(t), credential.Change{Ref: ref(1, "a")}))
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	second := s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	for range 2 {
		s.mustNot(t, on.Remove(s.context(t), credential.Change{Ref: ref(2, "a")}))
		s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
		s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
		s.wantAnswer(t, on, ref(2, "b"), second, credential.Accepted)
	}
	again := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(3, "a"), again, credential.Accepted)
}

func (s *suite) rejected(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.wantAnswer(t, on, ref(1, "a"), s.propose(t, target, "a"), credential.Rejected)
	s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(1, "a"), s.propose(t, target, "a"), credential.Rejected)
}

// unwanted tests a process that was stopped for a long time: the check before each change shows that it is no longer wanted.
func (s *suite) unwanted(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	published := s.stage(t, on, ref(2, "a"), s.propose(t, target, "a"))
	over := errors.New("another process continued")
	asked := 0
	late := func(r credential.Ref) credential.Change {
		return credential.Change{Ref: r, Material: s.propose(t, target, "a"), StillWanted: func(context.Context) error {
			asked++
			return fault.Transient(fault.APIServerFailed, over)
		}}
	}
	ctx := s.context(t)
	_, err := on.Stage(ctx, late(ref(3, "a")))
	for call, err := range map[string]error{"Stage": err, "Retire": on.Retire(ctx, late(ref(2, "a"))), "Remove": on.Remove(ctx, late(ref(2, "a"))),
		"TakeOver": on.TakeOver(ctx, late(foreign(2, "a")), ref(2, "a").Owner())} {
		s.heard(err)
		if !errors.Is(err, over) {
			t.Errorf("%s returned %v, want the error of the check", call, err)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times, want once for each change", asked)
	}
	s.wantAnswer(t, on, ref(2, "a"), published, credential.Accepted)
	s.wantMarker(t, on, ref(2, "a"), credential.Marker{Exists: true, Owner: ref(2, "a").Owner(), Seq: 2})
	s.mustNot(t, on.Remove(ctx, credential.Change{Ref: ref(2, "a"), StillWanted: func(context.Context) error { return nil }}))
	s.wantMarker(t, on, ref(2, "a"), credential.Marker{})
}
