// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/password"
)

// Harness is an engine under test, with a server behind it that the suite may abuse. Every function fails the test itself if
// it cannot do its work.
type Harness struct {
	// Engine is the engine under test.
	Engine database.Engine
	// Fresh returns a target that can be served: owner and database exist, its logins do not, and Create is true. Each call
	// returns another username.
	Fresh func(t *testing.T) database.Target
	// Foreign creates the login as an administrator would by hand: it can log in with the password, and has no marker.
	Foreign func(t *testing.T, target database.Target, login, password string)
	// Accepts reports whether a client of the server can log in, without using the engine.
	Accepts func(t *testing.T, target database.Target, login, password string) bool
	// Connect logs a client in under the application name and keeps it connected until disconnect is called.
	Connect func(t *testing.T, target database.Target, login, password, client string) (disconnect func())
	// Outage makes the server unreachable until end is called.
	Outage func(t *testing.T) (end func())
	// Open makes the server accept every password until end is called.
	Open func(t *testing.T) (end func())
	// Cripple holds, by name, the ways in which an administrator makes a login unusable without changing its password.
	// Staging the login's version again repairs it.
	Cripple map[string]func(t *testing.T, target database.Target, login string)
	// Block makes the target itself unusable until end is called; staging does not repair that.
	Block func(t *testing.T, target database.Target) (end func())
	// Log returns everything that the server has logged.
	Log func() string
}

// suite is one run of the contract.
type suite struct {
	Harness

	mu      sync.Mutex
	secrets []string // every password that was generated
	texts   []string // the text of every error
}

const callTimeout = 30 * time.Second

// Run is the contract of an engine. It runs its cases one after another, because some take the server down.
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
		{"another owner's marker fences every call", (*suite).fencedByForeign},
		{"another owner's marker on the other slot fences a change", (*suite).fencedBySibling},
		{"marks are handed over all at once, and from the owner that is named only", (*suite).takenOver},
		{"a login that someone else created is not changed", (*suite).loginExists},
		{"a missing login is not created unless the spec allows it", (*suite).loginNotFound},
		{"a retired version is refused, permanently and repeatedly", (*suite).retired},
		{"retiring a missing or taken-over login changes nothing", (*suite).retiredElsewhere},
		{"retiring is final", (*suite).final},
		{"a slot serves again after it was retired", (*suite).reused},
		{"a change that is not wanted any more is not made", (*suite).unwanted},
		{"removing drops what is ours and nothing else", (*suite).removed},
		{"a wrong password and an absent login are rejected", (*suite).rejected},
		{"the answer is Unknown while the server is unreachable", (*suite).away},
		{"a server that takes any password proves nothing", (*suite).notEnforced},
		{"an unusable login is not accepted, and staging again fixes it", (*suite).crippled},
		{"what staging does not fix is rejected, and the error names who must act", (*suite).blocked},
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

// open returns a session with every optional interface for a target, closed when the test ends.
func (s *suite) open(t *testing.T, of database.Engine, target database.Target) powers {
	t.Helper()
	session, err := of.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	full, ok := session.(powers)
	if !ok {
		t.Fatal("the session lacks one of the optional interfaces")
	}
	return full
}

func ref(seq int64, slot string) credential.Ref {
	return credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: seq, Slot: slot}
}

func foreign(seq int64, slot string) credential.Ref {
	r := ref(seq, slot)
	r.Name = "another-object"
	return r
}

// propose generates the material of a login and remembers the password.
func (s *suite) propose(t *testing.T, target database.Target, slot string) credential.Material {
	t.Helper()
	login, err := scram.Login(target.Username+"_"+slot, 32, password.WithSymbols)
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

// heard keeps the text of an error for the search at the end of the suite.
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
	got, err := on.Stage(s.context(t), credential.Change{Ref: r, Material: proposed})
	s.heard(err)
	if err != nil {
		t.Fatalf("staging %s: %v", r, err)
	}
	return got.Material
}

// maxWaits limits the attempts while a change is still in progress.
const maxWaits = 10

func (s *suite) wantAnswer(t *testing.T, on powers, r credential.Ref, with credential.Material, want credential.Answer) {
	t.Helper()
	got, err := on.Verify(s.context(t), r, with)
	s.heard(err)
	// Wait for a change that is still in progress, as the planner does.
	for tries := 0; fault.Classify(err) == fault.ClassPending && tries < maxWaits; tries++ {
		moment, cancel := context.WithTimeout(s.context(t), fault.RetryAfter(err))
		<-moment.Done()
		cancel()
		got, err = on.Verify(s.context(t), r, with)
		s.heard(err)
	}
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
	got.Open = want.Open // wantOpen checks it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the marker of slot %q: %s", r.Slot, diff)
	}
}

func (s *suite) wantOpen(t *testing.T, on powers, r credential.Ref, want bool) {
	t.Helper()
	got, err := on.Marker(s.context(t), r)
	s.mustNot(t, err)
	if got.Open != want {
		t.Errorf("the login in slot %q is reported as open: %t, want %t", r.Slot, got.Open, want)
	}
}

func (s *suite) mustNot(t *testing.T, err error) {
	t.Helper()
	s.heard(err)
	if err != nil {
		t.Error(err)
	}
}
