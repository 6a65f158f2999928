// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

var removing = []promise{
	{"removing drops what is ours and nothing else", (*Suite).removed},
}

var counting = []promise{
	{"sessions are counted per version", (*Suite).counted},
}

var preflighting = []promise{
	{"preflight names what is missing and changes nothing", (*Suite).preflight},
}

func (s *Suite) removed(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	remove := func(v version) {
		t.Helper()
		s.MustNot(t, power[credential.Remover](t, on).Remove(s.Context(t), v.change()))
	}
	remove(version{ref: ref(1, s.a)})
	first := s.stage(t, on, ref(1, s.a))
	second := first
	if s.a != s.b {
		second = s.stage(t, on, ref(2, s.b))
	}
	for range 2 {
		remove(version{ref(2, s.a), first.material})
		s.wantMarker(t, on, first.ref, credential.Marker{})
		s.wantAnswer(t, on, first, credential.Rejected)
		if s.a != s.b {
			s.wantAnswer(t, on, second, credential.Accepted)
		}
	}
	s.wantAccepts(t, subject, first.material, false)
	s.wantAnswer(t, on, s.stage(t, on, ref(3, s.a)), credential.Accepted)
}

func (s *Suite) counted(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	a := s.stage(t, on, ref(1, s.a))
	if s.a != s.b {
		s.stage(t, on, ref(2, s.b))
	}
	connect := must(t, subject.Connect, subject.Connect == nil, "Connect")
	var ends []func()
	for _, client := range []string{"web", "worker", "web"} {
		ends = append(ends, connect(t, a.material, client))
	}
	s.wantAnswer(t, on, a, credential.Accepted) // our own login does not count
	if s.Traits.Revocable {
		s.MustNot(t, on.Retire(s.Context(t), a.change()))
	}
	s.wantSessions(t, on, ref(1, s.a), 3, []string{"web", "worker"})
	if s.a != s.b {
		s.wantSessions(t, on, ref(2, s.b), 0, nil)
	}
	for _, end := range ends {
		end()
	}
	s.wantSessions(t, on, ref(1, s.a), 0, nil)
}

// wantSessions polls until the answer is right or time is up: a server may notice late that a client has disconnected.
func (s *Suite) wantSessions(t *testing.T, on credential.Source, r credential.Ref, count int, clients []string) {
	t.Helper()
	counter := power[credential.SessionCounter](t, on)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := counter.Sessions(s.Context(t), r)
		s.Heard(err)
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

func (s *Suite) preflight(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	on := subject.Source(t)
	check := func(on credential.Source, r credential.Ref) error {
		return power[credential.Preflighter](t, on).Preflight(s.Context(t), r)
	}
	s.MustNot(t, check(on, ref(1, s.a)))
	s.wantMarker(t, on, ref(1, s.a), credential.Marker{})
	s.stage(t, on, ref(1, s.a))
	s.MustNot(t, check(on, ref(2, s.b)))
	forbidden, reason := must(t, subject.Forbidden, subject.Forbidden == nil, "Forbidden")(t)
	s.WantFault(t, check(forbidden, ref(2, s.b)), fault.ClassPermanent, reason)
}
