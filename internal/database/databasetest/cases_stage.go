// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

func (s *suite) staged(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
	proposed := s.propose(t, target, "a")
	got := s.stage(t, on, ref(1, "a"), proposed)
	if !got.Equal(proposed) {
		t.Error("the material to publish is not what was proposed")
	}
	s.wantAnswer(t, on, ref(1, "a"), got, credential.Accepted)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: ref(1, "a").Owner(), Seq: 1})
	s.wantMarker(t, on, ref(1, "b"), credential.Marker{})
	second := s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	s.wantAnswer(t, on, ref(2, "b"), second, credential.Accepted)
	s.wantAnswer(t, on, ref(1, "a"), got, credential.Accepted)
	if !s.Accepts(t, target, got.String(credential.KeyUsername), got.String(credential.KeyPassword)) {
		t.Error("a client is refused")
	}
}

func (s *suite) stagedTwice(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	proposed := s.propose(t, target, "a")
	for range 3 {
		on := s.open(t, s.Engine, target) // a new session each time: no state may be kept in memory
		s.stage(t, on, ref(4, "a"), proposed)
		s.wantAnswer(t, on, ref(4, "a"), proposed, credential.Accepted)
		s.wantMarker(t, on, ref(4, "a"), credential.Marker{Exists: true, Owner: ref(4, "a").Owner(), Seq: 4})
	}
}

func (s *suite) lostAnswer(t *testing.T) {
	t.Helper()
	for _, mode := range []Mode{FailAfter, LoseAnswer} {
		target := s.Fresh(t)
		faulty := NewFaulty(s.Engine)
		on := s.open(t, faulty, target)
		proposed := s.propose(t, target, "a")
		faulty.Arm(1, mode)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := on.Stage(ctx, credential.Change{Ref: ref(1, "a"), Material: proposed})
		cancel()
		s.wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
		s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
		s.stage(t, on, ref(1, "a"), proposed)
		s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
	}
}

func (s *suite) failedBefore(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	faulty := NewFaulty(s.Engine)
	on := s.open(t, faulty, target)
	proposed := s.propose(t, target, "a")
	faulty.Arm(1, FailBefore)
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: proposed})
	s.wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
	s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Rejected)
	s.stage(t, on, ref(1, "a"), proposed)
	s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
	// A Verify is repeated while a change is still in progress.
	if diff := cmp.Diff([]string{"Stage", "Verify", "Stage", "Verify"}, slices.Compact(faulty.Calls())); diff != "" {
		t.Error(diff)
	}
}

func (s *suite) fencedByNewer(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	newer := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	older := s.propose(t, target, "a")
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: older})
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantAnswer(t, on, ref(3, "a"), newer, credential.Accepted)
	s.wantAnswer(t, on, ref(1, "a"), older, credential.Rejected)
	s.wantMarker(t, on, ref(3, "a"), credential.Marker{Exists: true, Owner: ref(3, "a").Owner(), Seq: 3})
}

func (s *suite) fencedByForeign(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	theirs := s.stage(t, on, foreign(1, "a"), s.propose(t, target, "a"))
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(9, "a"), Material: s.propose(t, target, "a")})
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantFault(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}), fault.ClassPermanent, fault.Fenced)
	s.mustNot(t, on.Remove(s.context(t), credential.Change{Ref: ref(1, "a")}))
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.Fenced)
	s.wantAnswer(t, on, foreign(1, "a"), theirs, credential.Accepted)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: foreign(1, "a").Owner(), Seq: 1})
}

func (s *suite) fencedBySibling(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	theirs := s.stage(t, on, foreign(1, "a"), s.propose(t, target, "a"))
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(2, "b"), Material: s.propose(t, target, "b")})
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantMarker(t, on, ref(2, "b"), credential.Marker{})
	s.wantAnswer(t, on, foreign(1, "a"), theirs, credential.Accepted)
}

// takenOver moves the credential to another owner: passwords, numbers and retirements stay as they were.
func (s *suite) takenOver(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.stage(t, on, foreign(1, "a"), s.propose(t, target, "a"))
	live := s.stage(t, on, foreign(2, "b"), s.propose(t, target, "b"))
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: foreign(1, "a")}))
	s.wantFault(t, on.TakeOver(s.context(t), credential.Change{Ref: ref(1, "a")}, "c0ffee/shop/nobody"), fault.ClassPermanent, fault.Fenced)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: foreign(1, "a").Owner(), Seq: 1})
	// The checks of a new credential refuse another owner's logins, unless they are about to be taken over from that owner.
	former := func(owner string) error { return on.Preflight(credential.WithFormer(s.context(t), owner), ref(1, "a")) }
	s.wantFault(t, former(""), fault.ClassPermanent, fault.Fenced)
	s.wantFault(t, former("c0ffee/shop/nobody"), fault.ClassPermanent, fault.Fenced)
	s.mustNot(t, former(foreign(1, "a").Owner()))
	for range 2 {
		s.mustNot(t, on.TakeOver(s.context(t), credential.Change{Ref: ref(1, "a")}, foreign(1, "a").Owner()))
		s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: ref(1, "a").Owner(), Seq: 1})
		s.wantMarker(t, on, ref(1, "b"), credential.Marker{Exists: true, Owner: ref(1, "b").Owner(), Seq: 2})
	}
	s.wantOpen(t, on, ref(1, "a"), false)
	s.wantAnswer(t, on, ref(2, "b"), live, credential.Accepted)
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: s.propose(t, target, "a")})
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced) // it was retired, regardless of who owned it then
	_, err = on.Stage(s.context(t), credential.Change{Ref: foreign(3, "a"), Material: s.propose(t, target, "a")})
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	other := s.open(t, s.Engine, s.Fresh(t))
	s.mustNot(t, other.TakeOver(s.context(t), credential.Change{Ref: ref(1, "a")}, foreign(1, "a").Owner())) // nothing to take over
}

func (s *suite) loginExists(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	login, password := target.Username+"_a", "Made-by-hand-0123456789"
	s.remember(password)
	s.Foreign(t, target, login, password)
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: s.propose(t, target, "a")})
	s.wantFault(t, err, fault.ClassPermanent, fault.LoginExists)
	s.wantFault(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}), fault.ClassPermanent, fault.Fenced)
	s.mustNot(t, on.Remove(s.context(t), credential.Change{Ref: ref(1, "a")}))
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.LoginExists)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true})
	if !s.Accepts(t, target, login, password) {
		t.Error("the login no longer works")
	}
}

func (s *suite) loginNotFound(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	target.Create = false
	on := s.open(t, s.Engine, target)
	_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: s.propose(t, target, "a")})
	s.wantFault(t, err, fault.ClassBlocked, fault.LoginNotFound)
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassBlocked, fault.LoginNotFound)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}
