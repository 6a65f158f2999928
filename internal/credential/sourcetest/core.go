// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

var core = []promise{
	{"the source has the traits and the powers that it declares, and so has one in front of it", (*Suite).declared},
	{"a staged version is accepted, and the other slot is untouched", (*Suite).staged},
	{"a proposal has no effect and is new each time", (*Suite).proposed},
}

// proposing holds the cases for every source whose secret the remote system does not generate.
var proposing = []promise{
	{"staging the same version again changes nothing", (*Suite).stagedTwice},
	{"material that is for another login, or incomplete, is refused", (*Suite).wrongMaterial},
}

// remote holds the cases for every source with a remote system.
var remote = []promise{
	{"a lost answer of Stage is settled by asking", (*Suite).lostAnswer},
	{"a call that failed before its effect had none", (*Suite).failedBefore},
	{"every call ends with its context", (*Suite).ended},
}

var slots = []promise{
	{"a slot that does not exist is refused", (*Suite).noSuchSlot},
}

func (s *Suite) declared(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	for name, source := range map[string]credential.Source{"the source": on, "the source behind faults": new(Faults).Source(on)} {
		if diff := cmp.Diff(s.Traits, source.Traits()); diff != "" {
			t.Errorf("%s has other traits: %s", name, diff)
		}
		if diff := cmp.Diff(s.Powers, PowersOf(source)); diff != "" {
			t.Errorf("%s has other powers: %s", name, diff)
		}
	}
	if n := len(s.Traits.Slots); n == 1 {
		t.Error("a single slot has no name: Slots is empty")
	}
	if s.Powers.Heir && !s.Powers.MarkerReader {
		t.Error("markers that cannot be read cannot be handed over")
	}
}

func (s *Suite) staged(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
	proposed := s.propose(t, on, ref(1, s.a))
	first := s.stageAs(t, on, ref(1, s.a), proposed)
	for key := range proposed {
		if !first.material[key].IsEmpty() && first.material.String(key) != proposed.String(key) {
			t.Errorf("the material to publish has another %s than was proposed", key)
		}
	}
	// An issuer adds its certificate and removes the request.
	if !s.Traits.Minted && s.Secret != credential.KeyPrivateKey && !first.material.Equal(proposed) {
		t.Error("the material to publish is not what was proposed")
	}
	if first.material[s.Secret].IsEmpty() {
		t.Error("the material to publish has no secret")
	}
	s.wantAnswer(t, on, first, credential.Accepted)
	s.wantMarker(t, on, first.ref, marked(first.ref))
	if s.a != s.b {
		s.wantMarker(t, on, ref(1, s.b), credential.Marker{})
	}
	second := s.stage(t, on, ref(2, s.b))
	s.wantAnswer(t, on, second, credential.Accepted)
	if s.Traits.Revocable {
		s.wantAnswer(t, on, first, credential.Accepted) // until it is retired
	}
	if subject.Accepts != nil {
		s.wantAccepts(t, subject, second.material, true)
	}
	if subject.Accepts != nil && s.Traits.Revocable {
		s.wantAccepts(t, subject, first.material, true)
	}
}

func (s *Suite) proposed(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	one, other := s.propose(t, on, ref(1, s.a)), s.propose(t, on, ref(1, s.a))
	if s.Traits.Minted {
		if !one[s.Secret].IsEmpty() {
			t.Error("the proposal has a secret, although the remote system generates it")
		}
	} else if one.String(s.Secret) == "" || one.String(s.Secret) == other.String(s.Secret) {
		t.Error("two proposals have the same secret, or none")
	}
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
	if s.Traits.Provable && !s.Traits.Minted {
		s.wantAnswer(t, on, version{ref(1, s.a), one}, credential.Rejected)
	}
}

func (s *Suite) stagedTwice(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	proposed := s.propose(t, subject.Source(t), ref(4, s.a))
	for range 3 {
		on := subject.Source(t) // a new one each time: no state may be kept in memory
		got := s.stageAs(t, on, ref(4, s.a), proposed)
		s.wantAnswer(t, on, got, credential.Accepted)
		s.wantMarker(t, on, got.ref, marked(got.ref))
	}
}

func (s *Suite) wrongMaterial(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	whole := s.propose(t, on, ref(1, s.a))
	for name, damage := range subject.Damaged {
		_, err := on.Stage(s.Context(t), credential.Change{Ref: ref(1, s.a), Material: damage(whole)})
		if fault.ReasonOf(err, "") != fault.LedgerInvalid {
			t.Errorf("%s: got %v, want LedgerInvalid", name, err)
		}
		s.Heard(err)
	}
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
}

func (s *Suite) lostAnswer(t *testing.T) {
	t.Helper()
	for _, mode := range []Mode{FailAfter, LoseAnswer} {
		faults := new(Faults)
		on := faults.Source(s.Fresh(t).Source(t))
		proposed := s.propose(t, on, ref(1, s.a))
		faults.Arm(1, mode)
		ctx, cancel := context.WithTimeout(t.Context(), s.patience())
		_, err := on.Stage(ctx, credential.Change{Ref: ref(1, s.a), Material: proposed})
		cancel()
		s.WantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
		if s.Traits.Provable && !s.Traits.Minted {
			s.wantAnswer(t, on, version{ref(1, s.a), proposed}, credential.Accepted)
		}
		s.wantAnswer(t, on, s.stageAs(t, on, ref(1, s.a), proposed), credential.Accepted)
	}
}

func (s *Suite) failedBefore(t *testing.T) {
	t.Helper()
	faults := new(Faults)
	on := faults.Source(s.Fresh(t).Source(t))
	proposed := s.propose(t, on, ref(1, s.a))
	faults.Arm(1, FailBefore)
	_, err := on.Stage(s.Context(t), credential.Change{Ref: ref(1, s.a), Material: proposed})
	s.WantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
	want := []string{"Stage", "Stage", "Verify"}
	if s.Traits.Provable && !s.Traits.Minted {
		s.wantAnswer(t, on, version{ref(1, s.a), proposed}, credential.Rejected)
		want = []string{"Stage", "Verify", "Stage", "Verify"}
	}
	s.wantAnswer(t, on, s.stageAs(t, on, ref(1, s.a), proposed), credential.Accepted)
	// A call is repeated while a change is still in progress.
	if diff := cmp.Diff(slices.Compact(want), slices.Compact(faults.Calls())); diff != "" {
		t.Error(diff)
	}
}

func (s *Suite) ended(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	proposed := s.propose(t, on, ref(1, s.a))
	_, staged := on.Stage(ctx, credential.Change{Ref: ref(1, s.a), Material: proposed})
	calls := map[string]error{"Stage": staged}
	if s.Traits.Provable {
		answer, err := on.Verify(ctx, ref(1, s.a), proposed)
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}
		calls["Verify"] = err
	}
	if s.Traits.Revocable {
		calls["Retire"] = on.Retire(ctx, credential.Change{Ref: ref(1, s.a), Material: proposed})
	}
	for name, err := range calls {
		s.Heard(err)
		if fault.Classify(err) != fault.ClassTransient {
			t.Errorf("%s: got %v, want a transient error", name, err)
		}
	}
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
}

func (s *Suite) noSuchSlot(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	proposed := s.propose(t, on, ref(1, s.a))
	for _, slot := range []string{"", "c", "a_b"} {
		change := credential.Change{Ref: ref(1, slot), Material: proposed}
		_, err := on.Stage(s.Context(t), change)
		s.WantFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
		if s.Traits.Revocable {
			s.WantFault(t, on.Retire(s.Context(t), change), fault.ClassPermanent, fault.LedgerInvalid)
		}
		if s.Powers.Remover {
			s.WantFault(t, power[credential.Remover](t, on).Remove(s.Context(t), change), fault.ClassPermanent, fault.LedgerInvalid)
		}
	}
}
