// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"sync"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

var marking = []promise{
	{"a newer marker fences an older version off", (*Suite).fencedByNewer},
	{"another owner's marker fences every call", (*Suite).fencedByForeign},
	{"a login that someone else created is not changed", (*Suite).loginExists},
	{"a missing login is not created unless the spec allows it", (*Suite).loginNotFound},
	{"two drivers at once: the newer version stays", (*Suite).race},
}

// siblings holds the cases for markers in several slots.
var siblings = []promise{
	{"another owner's marker on the other slot fences a change", (*Suite).fencedBySibling},
}

// finality holds what markers add to retiring.
var finality = []promise{
	{"retiring is final", (*Suite).final},
}

var heir = []promise{
	{"markers are handed over all at once, and only from the named owner", (*Suite).takenOver},
}

func (s *Suite) fencedByNewer(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	newer := s.stage(t, on, ref(3, s.a))
	older := version{ref(1, s.a), s.propose(t, on, ref(1, s.a))}
	_, err := on.Stage(s.Context(t), older.change())
	s.WantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantAnswer(t, on, newer, credential.Accepted)
	s.wantAnswer(t, on, older, credential.Rejected)
	s.wantMarker(t, on, newer.ref, marked(newer.ref))
}

func (s *Suite) fencedByForeign(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	theirs := s.stage(t, on, foreign(1, s.a))
	s.refused(t, on, ref(9, s.a), fault.ClassPermanent, fault.Fenced)
	s.fencesAll(t, on, fault.Fenced)
	s.wantAnswer(t, on, theirs, credential.Accepted)
	s.wantMarker(t, on, ref(1, s.a), marked(theirs.ref))
}

// fencesAll checks that what is not ours cannot be retired or removed, and fails Preflight.
func (s *Suite) fencesAll(t *testing.T, on credential.Source, preflight fault.Reason) {
	t.Helper()
	ours := credential.Change{Ref: ref(1, s.a)}
	if s.Traits.Revocable {
		s.WantFault(t, on.Retire(s.Context(t), ours), fault.ClassPermanent, fault.Fenced)
	}
	if as, ok := credential.As[credential.Remover](on); ok {
		s.MustNot(t, as.Remove(s.Context(t), ours))
	}
	if as, ok := credential.As[credential.Preflighter](on); ok {
		s.WantFault(t, as.Preflight(s.Context(t), ours.Ref), fault.ClassPermanent, preflight)
	}
}

func (s *Suite) fencedBySibling(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	theirs := s.stage(t, on, foreign(1, s.a))
	s.refused(t, on, ref(2, s.b), fault.ClassPermanent, fault.Fenced)
	s.wantMarker(t, on, ref(2, s.b), credential.Marker{})
	s.wantAnswer(t, on, theirs, credential.Accepted)
}

func (s *Suite) loginExists(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	byHand := must(t, subject.Foreign, subject.Foreign == nil, "Foreign")(t, s.a)
	s.Remember(byHand.String(s.Secret))
	s.refused(t, on, ref(1, s.a), fault.ClassPermanent, fault.LoginExists)
	s.fencesAll(t, on, fault.LoginExists)
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{Exists: true})
	s.wantAccepts(t, subject, byHand, true)
}

func (s *Suite) loginNotFound(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	if subject.WithoutCreating == nil {
		return // it has no such option
	}
	on := subject.WithoutCreating(t)
	s.refused(t, on, ref(1, s.a), fault.ClassBlocked, fault.LoginNotFound)
	if as, ok := credential.As[credential.Preflighter](on); ok {
		s.WantFault(t, as.Preflight(s.Context(t), ref(1, s.a)), fault.ClassBlocked, fault.LoginNotFound)
	}
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
}

// final tests that retiring is final: neither the version nor an earlier one comes back, not even by a Stage that was in
// progress.
func (s *Suite) final(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	first := s.stage(t, on, ref(3, s.a))
	// Retiring a version that never reached the slot retires the one in it.
	s.MustNot(t, on.Retire(s.Context(t), credential.Change{Ref: ref(5, s.a)}))
	for _, seq := range []int64{3, 4, 5} {
		s.refused(t, on, ref(seq, s.a), fault.ClassPermanent, fault.Fenced)
	}
	s.wantAnswer(t, on, first, credential.Rejected)
	s.wantAnswer(t, on, s.stage(t, on, ref(6, s.a)), credential.Accepted)
}

// race has two drivers stage different versions into one slot at the same moment, many times.
func (s *Suite) race(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	older, newer := subject.Source(t), subject.Source(t)
	for round := range int64(8) {
		refs := []credential.Ref{ref(2*round+1, s.a), ref(2*round+2, s.a)}
		first, second := s.propose(t, older, refs[0]), s.propose(t, newer, refs[1])
		var wait sync.WaitGroup
		errs := make([]error, 2)
		var staged credential.Staged
		wait.Go(func() { _, errs[0] = older.Stage(s.Context(t), credential.Change{Ref: refs[0], Material: first}) })
		wait.Go(func() { staged, errs[1] = newer.Stage(s.Context(t), credential.Change{Ref: refs[1], Material: second}) })
		wait.Wait()
		s.Heard(errs[0])
		if errs[1] != nil {
			t.Fatalf("the newer version was not staged: %v", errs[1])
		}
		if errs[0] != nil && fault.ReasonOf(errs[0], "") != fault.Fenced {
			t.Fatalf("the older version: %v, want success or Fenced", errs[0])
		}
		s.wantMarker(t, newer, refs[1], marked(refs[1]))
		s.wantAnswer(t, newer, version{refs[1], staged.Material}, credential.Accepted)
	}
}

// takenOver moves the credential to another owner: passwords, numbers and retirements stay as they were.
func (s *Suite) takenOver(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	takeOver := func(on credential.Source, from string) error {
		return power[credential.Heir](t, on).TakeOver(s.Context(t), credential.Change{Ref: ref(1, s.a)}, from)
	}
	first := s.stage(t, on, foreign(1, s.a))
	live := s.stage(t, on, foreign(2, s.b))
	if s.a != s.b && s.Traits.Revocable {
		s.MustNot(t, on.Retire(s.Context(t), first.change()))
	}
	theirs := foreign(map[bool]int64{true: 2, false: 1}[s.a == s.b], s.a)
	s.WantFault(t, takeOver(on, "c0ffee/shop/nobody"), fault.ClassPermanent, fault.Fenced)
	s.wantMarker(t, on, ref(1, s.a), marked(theirs))
	if as, ok := credential.As[credential.Preflighter](on); ok {
		// The checks of a new credential refuse another owner's logins, unless they are about to be taken over from that owner.
		former := func(owner string) error { return as.Preflight(credential.WithFormer(s.Context(t), owner), ref(1, s.a)) }
		s.WantFault(t, former(""), fault.ClassPermanent, fault.Fenced)
		s.WantFault(t, former("c0ffee/shop/nobody"), fault.ClassPermanent, fault.Fenced)
		s.MustNot(t, former(theirs.Owner()))
	}
	for range 2 {
		s.MustNot(t, takeOver(on, theirs.Owner()))
		s.wantMarker(t, on, ref(1, s.a), marked(ref(theirs.Seq, s.a)))
		s.wantMarker(t, on, ref(1, s.b), marked(ref(2, s.b)))
	}
	s.wantAnswer(t, on, version{ref(2, s.b), live.material}, credential.Accepted)
	s.refused(t, on, foreign(3, s.a), fault.ClassPermanent, fault.Fenced)
	if s.a != s.b && s.Traits.Revocable {
		s.wantOpen(t, on, ref(1, s.a), false)
		s.refused(t, on, ref(1, s.a), fault.ClassPermanent, fault.Fenced) // it was retired, regardless of who owned it then
	}
	s.stage(t, on, ref(3, s.a))
	s.MustNot(t, takeOver(s.Fresh(t).Source(t), theirs.Owner())) // nothing to take over
}
