// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package backendtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/material"
)

// Harness is a backend under test, with a server behind it that the suite may ill-treat. Every function fails the test
// by itself if it cannot do its work.
type Harness struct {
	// Backend under test.
	Backend backend.Backend
	// Fresh gives a target that can be served: owner and database are there, its logins are not, and Create is true. Each
	// call gives another username.
	Fresh func(t *testing.T) backend.Target
	// Foreign makes the login as an administrator would by hand: it can log in with the password, and has no mark.
	Foreign func(t *testing.T, target backend.Target, login, password string)
	// Accepts tells whether a client of the server can log in, without the backend.
	Accepts func(t *testing.T, target backend.Target, login, password string) bool
	// Connect logs a client in under the application name and keeps it connected until the result is called.
	Connect func(t *testing.T, target backend.Target, login, password, client string) (disconnect func())
	// Outage makes the server unreachable until the result is called.
	Outage func(t *testing.T) (end func())
	// Open makes the server accept every password until the result is called.
	Open func(t *testing.T) (end func())
	// Log gives everything that the server has logged.
	Log func() string
}

// suite is one run of the contract.
type suite struct {
	Harness

	mu      sync.Mutex
	secrets []string // every password that was made
	texts   []string // the text of every error
}

const callTimeout = 30 * time.Second

// Run is the contract of a backend. It runs its cases one after the other, since some take the server down.
func Run(t *testing.T, harness Harness) {
	t.Helper()
	s := &suite{Harness: harness}
	for _, tc := range []struct {
		promise string
		check   func(*suite, *testing.T)
	}{
		{"a staged version is accepted, and the other slot is untouched", (*suite).staged},
		{"staging the same version again changes nothing", (*suite).stagedTwice},
		{"a lost answer of Stage is settled by asking", (*suite).lostAnswer},
		{"a call that failed before its effect had none", (*suite).failedBefore},
		{"a newer mark fences an older version off", (*suite).fencedByNewer},
		{"a mark of somebody else fences every call off", (*suite).fencedByForeign},
		{"a login that somebody else made is left alone", (*suite).loginExists},
		{"an absent login is not made where the spec says so", (*suite).loginNotFound},
		{"a retired version is refused, for good and more than once", (*suite).retired},
		{"retiring what is not there, or not that version, changes nothing", (*suite).retiredElsewhere},
		{"a slot serves again after it was retired", (*suite).reused},
		{"removing drops what is ours and nothing else", (*suite).removed},
		{"a wrong password and an absent login are rejected", (*suite).rejected},
		{"nothing but Unknown is said while the server is away", (*suite).away},
		{"a server that takes any password proves nothing", (*suite).notEnforced},
		{"sessions are counted per version", (*suite).counted},
		{"preflight names what stands in the way and changes nothing", (*suite).preflight},
		{"every call ends with its context", (*suite).ended},
		{"a slot that does not exist is refused", (*suite).noSuchSlot},
		{"material for another login, or not whole, is refused", (*suite).wrongMaterial},
		{"two drivers at once: the newer version stays", (*suite).race},
	} {
		t.Run(tc.promise, func(t *testing.T) { tc.check(s, t) })
	}
	t.Run("no password is in the server's log or in any error", s.noLeak)
}

// open gives a session with all powers for a target, closed when the test ends.
func (s *suite) open(t *testing.T, of backend.Backend, target backend.Target) powers {
	t.Helper()
	session, err := of.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	full, ok := session.(powers)
	if !ok {
		t.Fatal("the session lacks one of the optional powers")
	}
	return full
}

func ref(seq int64, slot string) credential.Ref {
	return credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: seq, Slot: slot}
}

func foreign(seq int64, slot string) credential.Ref {
	r := ref(seq, slot)
	r.Name = "somebody-else"
	return r
}

// propose makes the material of a login, and remembers the password.
func (s *suite) propose(t *testing.T, target backend.Target, slot string) credential.Material {
	t.Helper()
	login, err := material.Login(target.Username+"_"+slot, 32, material.WithSymbols)
	if err != nil {
		t.Fatal(err)
	}
	s.remember(login.String(credential.KeyPassword))
	return login
}

func (s *suite) remember(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
}

// heard keeps the text of an error for the search at the end.
func (s *suite) heard(err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.texts = append(s.texts, err.Error())
	}
}

func (s *suite) context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

// stage stages and fails the test if that fails.
func (s *suite) stage(t *testing.T, on powers, r credential.Ref, proposed credential.Material) credential.Material {
	t.Helper()
	got, err := on.Stage(s.context(t), r, proposed)
	s.heard(err)
	if err != nil {
		t.Fatalf("staging %s: %v", r, err)
	}
	return got
}

func (s *suite) wantAnswer(t *testing.T, on powers, r credential.Ref, with credential.Material, want credential.Answer) {
	t.Helper()
	got, err := on.Verify(s.context(t), r, with)
	s.heard(err)
	if got != want {
		t.Errorf("verifying %s: %s, want %s (%v)", r, got, want, err)
	}
	if want == credential.Accepted && err != nil {
		t.Errorf("accepted, with an error: %v", err)
	}
}

func (s *suite) wantFault(t *testing.T, err error, class fault.Class, reason fault.Reason) {
	t.Helper()
	s.heard(err)
	if fault.Classify(err) != class || fault.ReasonOf(err, "") != reason {
		t.Errorf("got %s %s (%v), want %s %s", fault.Classify(err), fault.ReasonOf(err, ""), err, class, reason)
	}
}

func (s *suite) wantMarker(t *testing.T, on powers, r credential.Ref, want credential.Marker) {
	t.Helper()
	got, err := on.Marker(s.context(t), r)
	s.heard(err)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the mark of slot %q: %s", r.Slot, diff)
	}
}

func (s *suite) mustNot(t *testing.T, err error) {
	t.Helper()
	s.heard(err)
	if err != nil {
		t.Error(err)
	}
}

func (s *suite) staged(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
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
	target := s.Fresh(t)
	proposed := s.propose(t, target, "a")
	for range 3 {
		on := s.open(t, s.Backend, target) // a new session each time: nothing may live in memory
		s.stage(t, on, ref(4, "a"), proposed)
		s.wantAnswer(t, on, ref(4, "a"), proposed, credential.Accepted)
		s.wantMarker(t, on, ref(4, "a"), credential.Marker{Exists: true, Owner: ref(4, "a").Owner(), Seq: 4})
	}
}

func (s *suite) lostAnswer(t *testing.T) {
	for _, mode := range []Mode{FailAfter, LoseAnswer} {
		target := s.Fresh(t)
		faulty := NewFaulty(s.Backend)
		on := s.open(t, faulty, target)
		proposed := s.propose(t, target, "a")
		faulty.Arm(1, mode)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := on.Stage(ctx, ref(1, "a"), proposed)
		cancel()
		s.wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
		s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
		s.stage(t, on, ref(1, "a"), proposed)
		s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
	}
}

func (s *suite) failedBefore(t *testing.T) {
	target := s.Fresh(t)
	faulty := NewFaulty(s.Backend)
	on := s.open(t, faulty, target)
	proposed := s.propose(t, target, "a")
	faulty.Arm(1, FailBefore)
	_, err := on.Stage(s.context(t), ref(1, "a"), proposed)
	s.wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
	s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Rejected)
	s.stage(t, on, ref(1, "a"), proposed)
	s.wantAnswer(t, on, ref(1, "a"), proposed, credential.Accepted)
	if diff := cmp.Diff([]string{"Stage", "Verify", "Stage", "Verify"}, faulty.Calls()); diff != "" {
		t.Error(diff)
	}
}

func (s *suite) fencedByNewer(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	newer := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	older := s.propose(t, target, "a")
	_, err := on.Stage(s.context(t), ref(1, "a"), older)
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantAnswer(t, on, ref(3, "a"), newer, credential.Accepted)
	s.wantAnswer(t, on, ref(1, "a"), older, credential.Rejected)
	s.wantMarker(t, on, ref(3, "a"), credential.Marker{Exists: true, Owner: ref(3, "a").Owner(), Seq: 3})
}

func (s *suite) fencedByForeign(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	theirs := s.stage(t, on, foreign(1, "a"), s.propose(t, target, "a"))
	_, err := on.Stage(s.context(t), ref(9, "a"), s.propose(t, target, "a"))
	s.wantFault(t, err, fault.ClassPermanent, fault.Fenced)
	s.wantFault(t, on.Retire(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.Fenced)
	s.mustNot(t, on.Remove(s.context(t), ref(1, "a")))
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.Fenced)
	s.wantAnswer(t, on, foreign(1, "a"), theirs, credential.Accepted)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: foreign(1, "a").Owner(), Seq: 1})
}

func (s *suite) loginExists(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	login, password := target.Username+"_a", "Made-by-hand-0123456789"
	s.remember(password)
	s.Foreign(t, target, login, password)
	_, err := on.Stage(s.context(t), ref(1, "a"), s.propose(t, target, "a"))
	s.wantFault(t, err, fault.ClassPermanent, fault.LoginExists)
	s.wantFault(t, on.Retire(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.Fenced)
	s.mustNot(t, on.Remove(s.context(t), ref(1, "a")))
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassPermanent, fault.LoginExists)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true})
	if !s.Accepts(t, target, login, password) {
		t.Error("the login does not work any more")
	}
}

func (s *suite) loginNotFound(t *testing.T) {
	target := s.Fresh(t)
	target.Create = false
	on := s.open(t, s.Backend, target)
	_, err := on.Stage(s.context(t), ref(1, "a"), s.propose(t, target, "a"))
	s.wantFault(t, err, fault.ClassBlocked, fault.LoginNotFound)
	s.wantFault(t, on.Preflight(s.context(t), ref(1, "a")), fault.ClassBlocked, fault.LoginNotFound)
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}

func (s *suite) retired(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	second := s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	for range 2 {
		s.mustNot(t, on.Retire(s.context(t), ref(1, "a")))
		s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
		s.wantAnswer(t, on, ref(2, "b"), second, credential.Accepted)
	}
	if s.Accepts(t, target, first.String(credential.KeyUsername), first.String(credential.KeyPassword)) {
		t.Error("a client gets in with the retired login")
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{Exists: true, Owner: ref(1, "a").Owner(), Seq: 1})
}

func (s *suite) retiredElsewhere(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	s.mustNot(t, on.Retire(s.context(t), ref(1, "a")))
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
	live := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	for _, seq := range []int64{1, 5} { // a slot that was taken over, and a version that never reached it
		s.mustNot(t, on.Retire(s.context(t), ref(seq, "a")))
		s.wantAnswer(t, on, ref(3, "a"), live, credential.Accepted)
	}
	s.wantMarker(t, on, ref(3, "a"), credential.Marker{Exists: true, Owner: ref(3, "a").Owner(), Seq: 3})
}

func (s *suite) reused(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Retire(s.context(t), ref(1, "a")))
	third := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(3, "a"), third, credential.Accepted)
	s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
}

func (s *suite) removed(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	s.mustNot(t, on.Remove(s.context(t), ref(1, "a")))
	first := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	second := s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	for range 2 {
		s.mustNot(t, on.Remove(s.context(t), ref(2, "a")))
		s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
		s.wantAnswer(t, on, ref(1, "a"), first, credential.Rejected)
		s.wantAnswer(t, on, ref(2, "b"), second, credential.Accepted)
	}
	again := s.stage(t, on, ref(3, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(3, "a"), again, credential.Accepted)
}

func (s *suite) rejected(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	s.wantAnswer(t, on, ref(1, "a"), s.propose(t, target, "a"), credential.Rejected)
	s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.wantAnswer(t, on, ref(1, "a"), s.propose(t, target, "a"), credential.Rejected)
}

func (s *suite) away(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	live := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	end := s.Outage(t)
	defer func() {
		if end != nil {
			end()
		}
	}()
	for _, with := range []credential.Material{live, s.propose(t, target, "a")} {
		answer, err := on.Verify(s.context(t), ref(1, "a"), with)
		s.heard(err)
		if answer != credential.Unknown || fault.Classify(err) != fault.ClassTransient {
			t.Errorf("got %s, %v; want Unknown and a transient error", answer, err)
		}
	}
	_, staged := on.Stage(s.context(t), ref(2, "b"), s.propose(t, target, "b"))
	_, marked := on.Marker(s.context(t), ref(1, "a"))
	_, counted := on.Sessions(s.context(t), ref(1, "a"))
	_, checked := s.Backend.Check(s.context(t), target.Server)
	for name, err := range map[string]error{
		"Stage": staged, "Marker": marked, "Sessions": counted, "Check": checked, "Retire": on.Retire(s.context(t), ref(1, "a")),
		"Remove": on.Remove(s.context(t), ref(1, "a")), "Preflight": on.Preflight(s.context(t), ref(1, "a")),
	} {
		s.heard(err)
		if fault.Classify(err) != fault.ClassTransient {
			t.Errorf("%s: got %v, want a transient error", name, err)
		}
	}
	end()
	end = nil
	s.wantAnswer(t, on, ref(1, "a"), live, credential.Accepted)
	s.wantMarker(t, on, ref(1, "b"), credential.Marker{})
}

func (s *suite) notEnforced(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	live := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	end := s.Open(t)
	for _, with := range []credential.Material{live, s.propose(t, target, "a")} {
		answer, err := on.Verify(s.context(t), ref(1, "a"), with)
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}
		s.wantFault(t, err, fault.ClassPermanent, fault.AuthenticationNotEnforced)
	}
	end()
	s.wantAnswer(t, on, ref(1, "a"), live, credential.Accepted)
}

func (s *suite) counted(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	a := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	var ends []func()
	for _, client := range []string{"web", "worker", "web"} {
		ends = append(ends, s.Connect(t, target, a.String(credential.KeyUsername), a.String(credential.KeyPassword), client))
	}
	s.wantAnswer(t, on, ref(1, "a"), a, credential.Accepted) // a login of ours does not count
	s.mustNot(t, on.Retire(s.context(t), ref(1, "a")))
	s.wantSessions(t, on, ref(1, "a"), 3, []string{"web", "worker"})
	s.wantSessions(t, on, ref(2, "b"), 0, nil)
	for _, end := range ends {
		end()
	}
	s.wantSessions(t, on, ref(1, "a"), 0, nil)
}

// wantSessions asks until the answer is right or time is up: a server notices late that a client is gone.
func (s *suite) wantSessions(t *testing.T, on powers, r credential.Ref, count int, clients []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := on.Sessions(s.context(t), r)
		s.heard(err)
		if err != nil {
			t.Fatal(err)
		}
		if got.Count == count && strings.Join(got.Clients, ",") == strings.Join(clients, ",") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("slot %q has %d sessions of %v, want %d of %v", r.Slot, got.Count, got.Clients, count, clients)
		case <-tick.C:
		}
	}
}

func (s *suite) preflight(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	s.mustNot(t, on.Preflight(s.context(t), ref(1, "a")))
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
	s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Preflight(s.context(t), ref(2, "b")))
	forbidden := target
	forbidden.Server.AllowedOwners = []string{"nobody_at_all"}
	s.wantFault(t, s.open(t, s.Backend, forbidden).Preflight(s.context(t), ref(2, "b")), fault.ClassPermanent, fault.OwnerForbidden)
	report, err := s.Backend.Check(s.context(t), target.Server)
	s.mustNot(t, err)
	if report.Version == "" {
		t.Error("the report names no version")
	}
}

func (s *suite) ended(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, staged := on.Stage(ctx, ref(1, "a"), s.propose(t, target, "a"))
	answer, verified := on.Verify(ctx, ref(1, "a"), s.propose(t, target, "a"))
	if answer != credential.Unknown {
		t.Errorf("got %s, want Unknown", answer)
	}
	for name, err := range map[string]error{"Stage": staged, "Verify": verified, "Retire": on.Retire(ctx, ref(1, "a"))} {
		s.heard(err)
		if fault.Classify(err) != fault.ClassTransient {
			t.Errorf("%s: got %v, want a transient error", name, err)
		}
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}

func (s *suite) noSuchSlot(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	for _, slot := range []string{"", "c", "a_b"} {
		_, err := on.Stage(s.context(t), ref(1, slot), s.propose(t, target, slot))
		s.wantFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
		s.wantFault(t, on.Retire(s.context(t), ref(1, slot)), fault.ClassPermanent, fault.LedgerInvalid)
		s.wantFault(t, on.Remove(s.context(t), ref(1, slot)), fault.ClassPermanent, fault.LedgerInvalid)
	}
}

func (s *suite) wrongMaterial(t *testing.T) {
	target := s.Fresh(t)
	on := s.open(t, s.Backend, target)
	whole := s.propose(t, target, "a")
	for name, proposed := range map[string]credential.Material{
		"another login":  s.propose(t, target, "b"),
		"no verifier":    whole.With(credential.KeyVerifier, nil),
		"no password":    whole.With(credential.KeyPassword, nil),
		"nothing at all": {},
		"another user":   whole.With(credential.KeyUsername, []byte("root")),
	} {
		_, err := on.Stage(s.context(t), ref(1, "a"), proposed)
		if fault.ReasonOf(err, "") != fault.LedgerInvalid {
			t.Errorf("%s: got %v, want LedgerInvalid", name, err)
		}
		s.heard(err)
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}

// race lets two drivers stage different versions into one slot at the same moment, many times.
func (s *suite) race(t *testing.T) {
	target := s.Fresh(t)
	older, newer := s.open(t, s.Backend, target), s.open(t, s.Backend, target)
	for round := range int64(8) {
		first, second := s.propose(t, target, "a"), s.propose(t, target, "a")
		var wait sync.WaitGroup
		errs := make([]error, 2)
		wait.Go(func() { _, errs[0] = older.Stage(s.context(t), ref(2*round+1, "a"), first) })
		wait.Go(func() { _, errs[1] = newer.Stage(s.context(t), ref(2*round+2, "a"), second) })
		wait.Wait()
		s.heard(errs[0])
		if errs[1] != nil {
			t.Fatalf("the newer version was not staged: %v", errs[1])
		}
		if errs[0] != nil && fault.ReasonOf(errs[0], "") != fault.Fenced {
			t.Fatalf("the older version: %v, want success or Fenced", errs[0])
		}
		s.wantMarker(t, newer, ref(1, "a"), credential.Marker{Exists: true, Owner: ref(1, "a").Owner(), Seq: 2*round + 2})
		s.wantAnswer(t, newer, ref(2*round+2, "a"), second, credential.Accepted)
	}
}

func (s *suite) noLeak(t *testing.T) {
	log := s.Log()
	errs := errors.New(strings.Join(s.texts, "\n")).Error()
	if len(s.secrets) < 20 || len(s.texts) < 20 {
		t.Fatalf("only %d passwords and %d errors were seen: the search proves nothing", len(s.secrets), len(s.texts))
	}
	for _, secret := range s.secrets {
		if strings.Contains(log, secret) {
			t.Error("a password is in the server's log")
		}
		if strings.Contains(errs, secret) {
			t.Error("a password is in an error")
		}
	}
}
