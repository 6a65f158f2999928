// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

func (s *suite) away(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
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
	_, staged := on.Stage(s.context(t), credential.Change{Ref: ref(2, "b"), Material: s.propose(t, target, "b")})
	_, marked := on.Marker(s.context(t), ref(1, "a"))
	_, counted := on.Sessions(s.context(t), ref(1, "a"))
	_, checked := s.Engine.Check(s.context(t), target.Server)
	for name, err := range map[string]error{
		"Stage": staged, "Marker": marked, "Sessions": counted, "Check": checked, "Retire": on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}),
		"Remove": on.Remove(s.context(t), credential.Change{Ref: ref(1, "a")}), "Preflight": on.Preflight(s.context(t), ref(1, "a")),
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
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
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

// crippled tests a login with the right password that cannot be used. Verify returns Rejected without an error for the
// administrator, because the change is permanent and staging the version again repairs the login.
func (s *suite) crippled(t *testing.T) {
	t.Helper()
	if len(s.Cripple) == 0 {
		t.Fatal("the harness knows no way to cripple a login")
	}
	for name, cripple := range s.Cripple {
		t.Run(name, func(t *testing.T) { // with its own session, closed at the end
			target := s.Fresh(t)
			on := s.open(t, s.Engine, target)
			live := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
			s.wantAnswer(t, on, ref(1, "a"), live, credential.Accepted)
			cripple(t, target, live.String(credential.KeyUsername))
			answer, err := on.Verify(s.context(t), ref(1, "a"), live)
			s.heard(err)
			if class := fault.Classify(err); answer != credential.Rejected || class != fault.ClassNone && class != fault.ClassTransient {
				t.Errorf("got %s, %v; want Rejected, and no error or a transient one", answer, err)
			}
			s.stage(t, on, ref(1, "a"), live)
			s.wantAnswer(t, on, ref(1, "a"), live, credential.Accepted)
		})
	}
}

// blocked tests a login that cannot be used until an administrator changes its database.
func (s *suite) blocked(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	live := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	end := s.Block(t, target)
	answer, err := on.Verify(s.context(t), ref(1, "a"), live)
	s.heard(err)
	if class := fault.Classify(err); answer != credential.Rejected || class != fault.ClassBlocked && class != fault.ClassPermanent || fault.ReasonOf(err, "") == "" {
		t.Errorf("got %s, %v; want Rejected, with a reason, waiting for an administrator", answer, err)
	}
	end()
	s.wantAnswer(t, on, ref(1, "a"), live, credential.Accepted)
}

func (s *suite) counted(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	a := s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.stage(t, on, ref(2, "b"), s.propose(t, target, "b"))
	var ends []func()
	for _, client := range []string{"web", "worker", "web"} {
		ends = append(ends, s.Connect(t, target, a.String(credential.KeyUsername), a.String(credential.KeyPassword), client))
	}
	s.wantAnswer(t, on, ref(1, "a"), a, credential.Accepted) // our own login does not count
	s.mustNot(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, "a")}))
	s.wantSessions(t, on, ref(1, "a"), 3, []string{"web", "worker"})
	s.wantSessions(t, on, ref(2, "b"), 0, nil)
	for _, end := range ends {
		end()
	}
	s.wantSessions(t, on, ref(1, "a"), 0, nil)
}

// wantSessions polls until the answer is right or time is up: a server notices late that a client has disconnected.
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
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	s.mustNot(t, on.Preflight(s.context(t), ref(1, "a")))
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
	s.stage(t, on, ref(1, "a"), s.propose(t, target, "a"))
	s.mustNot(t, on.Preflight(s.context(t), ref(2, "b")))
	forbidden := target
	forbidden.Server.AllowedOwners = []string{"nobody_at_all"}
	s.wantFault(t, s.open(t, s.Engine, forbidden).Preflight(s.context(t), ref(2, "b")), fault.ClassPermanent, fault.OwnerForbidden)
	report, err := s.Engine.Check(s.context(t), target.Server)
	s.mustNot(t, err)
	if report.Version == "" {
		t.Error("the report names no version")
	}
}

func (s *suite) ended(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, staged := on.Stage(ctx, credential.Change{Ref: ref(1, "a"), Material: s.propose(t, target, "a")})
	answer, verified := on.Verify(ctx, ref(1, "a"), s.propose(t, target, "a"))
	if answer != credential.Unknown {
		t.Errorf("got %s, want Unknown", answer)
	}
	for name, err := range map[string]error{"Stage": staged, "Verify": verified, "Retire": on.Retire(ctx, credential.Change{Ref: ref(1, "a")})} {
		s.heard(err)
		if fault.Classify(err) != fault.ClassTransient {
			t.Errorf("%s: got %v, want a transient error", name, err)
		}
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}

func (s *suite) noSuchSlot(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	for _, slot := range []string{"", "c", "a_b"} {
		_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, slot), Material: s.propose(t, target, slot)})
		s.wantFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
		s.wantFault(t, on.Retire(s.context(t), credential.Change{Ref: ref(1, slot)}), fault.ClassPermanent, fault.LedgerInvalid)
		s.wantFault(t, on.Remove(s.context(t), credential.Change{Ref: ref(1, slot)}), fault.ClassPermanent, fault.LedgerInvalid)
	}
}

func (s *suite) wrongMaterial(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	on := s.open(t, s.Engine, target)
	whole := s.propose(t, target, "a")
	for name, proposed := range map[string]credential.Material{
		"another login":  s.propose(t, target, "b"),
		"no verifier":    whole.With(credential.KeyVerifier, nil),
		"no password":    whole.With(credential.KeyPassword, nil),
		"nothing at all": {},
		"another user":   whole.With(credential.KeyUsername, []byte("root")),
	} {
		_, err := on.Stage(s.context(t), credential.Change{Ref: ref(1, "a"), Material: proposed})
		if fault.ReasonOf(err, "") != fault.LedgerInvalid {
			t.Errorf("%s: got %v, want LedgerInvalid", name, err)
		}
		s.heard(err)
	}
	s.wantMarker(t, on, ref(1, "a"), credential.Marker{})
}

// race has two drivers stage different versions into one slot at the same moment, many times.
func (s *suite) race(t *testing.T) {
	t.Helper()
	target := s.Fresh(t)
	older, newer := s.open(t, s.Engine, target), s.open(t, s.Engine, target)
	for round := range int64(8) {
		first, second := s.propose(t, target, "a"), s.propose(t, target, "a")
		var wait sync.WaitGroup
		errs := make([]error, 2)
		wait.Go(func() {
			_, errs[0] = older.Stage(s.context(t), credential.Change{Ref: ref(2*round+1, "a"), Material: first})
		})
		wait.Go(func() {
			_, errs[1] = newer.Stage(s.context(t), credential.Change{Ref: ref(2*round+2, "a"), Material: second})
		})
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
