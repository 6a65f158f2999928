// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

var provable = []promise{
	{"a wrong password and an absent login are rejected", (*Suite).rejected},
	{"the answer is Unknown while the server is unreachable", (*Suite).away},
	{"a server that takes any password proves nothing", (*Suite).notEnforced},
	{"an unusable login is not accepted, and staging again fixes it", (*Suite).crippled},
	{"what staging does not fix is rejected, and the error names who must act", (*Suite).blocked},
}

var unprovable = []promise{
	{"verifying what was staged needs no remote system", (*Suite).verifiedAlone},
}

func (s *Suite) verifiedAlone(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	live := s.stage(t, on, ref(1, s.a))
	if s.Outage != nil {
		defer s.Outage(t)()
	}
	s.wantAnswer(t, on, live, credential.Accepted)
}

func (s *Suite) rejected(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	live := s.stage(t, on, ref(1, s.a))
	s.wantAnswer(t, on, s.wrong(t, on, live), credential.Rejected)
}

// wrong returns a copy of a version with another secret, which no client was given.
func (s *Suite) wrong(t *testing.T, on credential.Source, of version) version {
	t.Helper()
	if s.Traits.Minted {
		secret := "wrong-0123456789-" + of.ref.Slot
		s.Remember(secret)
		return version{of.ref, of.material.With(s.Secret, []byte(secret))}
	}
	return version{of.ref, s.propose(t, on, of.ref)}
}

func (s *Suite) away(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	live := s.stage(t, on, ref(1, s.a))
	end := must(t, s.Outage, s.Outage == nil, "Outage")(t)
	defer func() {
		if end != nil {
			end()
		}
	}()
	for _, with := range []version{live, s.wrong(t, on, live)} {
		answer, err := on.Verify(s.Context(t), with.ref, with.material)
		s.Heard(err)
		if answer != credential.Unknown || fault.Classify(err) != fault.ClassTransient {
			t.Errorf("got %s, %v; want Unknown and a transient error", answer, err)
		}
	}
	for name, err := range s.callsOf(t, on, live) {
		s.Heard(err)
		if fault.Classify(err) != fault.ClassTransient {
			t.Errorf("%s: got %v, want a transient error", name, err)
		}
	}
	end()
	end = nil
	s.wantAnswer(t, on, live, credential.Accepted)
	if s.a != s.b {
		s.wantMarker(t, on, ref(1, s.b), credential.Marker{})
	}
}

// callsOf makes every call that the source has, except Verify.
func (s *Suite) callsOf(t *testing.T, on credential.Source, live version) map[string]error {
	t.Helper()
	next := ref(2, s.b)
	_, staged := on.Stage(s.Context(t), credential.Change{Ref: next, Material: s.propose(t, on, next)})
	out := map[string]error{"Stage": staged}
	if s.Traits.Revocable {
		out["Retire"] = on.Retire(s.Context(t), live.change())
	}
	if as, ok := credential.As[credential.MarkerReader](on); ok {
		_, out["Marker"] = as.Marker(s.Context(t), live.ref)
	}
	if as, ok := credential.As[credential.SessionCounter](on); ok {
		_, out["Sessions"] = as.Sessions(s.Context(t), live.ref)
	}
	if as, ok := credential.As[credential.Remover](on); ok {
		out["Remove"] = as.Remove(s.Context(t), live.change())
	}
	if as, ok := credential.As[credential.Preflighter](on); ok {
		out["Preflight"] = as.Preflight(s.Context(t), live.ref)
	}
	return out
}

func (s *Suite) notEnforced(t *testing.T) {
	t.Helper()
	on := s.Fresh(t).Source(t)
	live := s.stage(t, on, ref(1, s.a))
	end := must(t, s.Open, s.Open == nil, "Open")(t)
	for _, with := range []version{live, s.wrong(t, on, live)} {
		answer, err := on.Verify(s.Context(t), with.ref, with.material)
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}
		s.WantFault(t, err, fault.ClassPermanent, fault.AuthenticationNotEnforced)
	}
	end()
	s.wantAnswer(t, on, live, credential.Accepted)
}

// crippled tests a login with the right password that cannot be used. Verify returns Rejected without an error for the
// administrator, because the change is permanent and staging the version again repairs the login.
func (s *Suite) crippled(t *testing.T) {
	t.Helper()
	ways := s.Fresh(t).Cripple
	must(t, ways, len(ways) == 0, "a way to cripple a login")
	for name := range ways {
		t.Run(name, func(t *testing.T) { // with its own source, closed at the end
			subject := s.Fresh(t)
			on := subject.Source(t)
			live := s.stage(t, on, ref(1, s.a))
			s.wantAnswer(t, on, live, credential.Accepted)
			subject.Cripple[name](t, live.material)
			answer, err := on.Verify(s.Context(t), live.ref, live.material)
			s.Heard(err)
			if class := fault.Classify(err); answer != credential.Rejected || class != fault.ClassNone && class != fault.ClassTransient {
				t.Errorf("got %s, %v; want Rejected, and no error or a transient one", answer, err)
			}
			if s.Traits.Minted {
				return // replaced, not repaired
			}
			s.wantAnswer(t, on, s.stageAs(t, on, live.ref, live.material), credential.Accepted)
		})
	}
}

// blocked tests a login that cannot be used until an administrator changes its target.
func (s *Suite) blocked(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	live := s.stage(t, on, ref(1, s.a))
	end := must(t, subject.Block, subject.Block == nil, "Block")(t)
	answer, err := on.Verify(s.Context(t), live.ref, live.material)
	s.Heard(err)
	if class := fault.Classify(err); answer != credential.Rejected || class != fault.ClassBlocked && class != fault.ClassPermanent || fault.ReasonOf(err, "") == "" {
		t.Errorf("got %s, %v; want Rejected, with a reason, waiting for an administrator", answer, err)
	}
	end()
	s.wantAnswer(t, on, live, credential.Accepted)
}
