// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
)

// Place is where one credential is on a server.
type Place struct {
	Server database.Server
	Target database.Target
}

// Harness is an engine under test, with a server behind it that the suite may abuse. Every function itself fails the test if
// it cannot do its work. Which of them are needed follows from the traits and powers (sourcetest).
type Harness struct {
	// Engine is the engine under test. Powers are the optional interfaces that its sessions have.
	Engine database.Engine
	Powers sourcetest.Powers
	// Fresh returns a place that can be served: what the target names exists, its logins do not, and Create is true. Each call
	// returns another username.
	Fresh func(t *testing.T) Place
	// Forbid changes a place into one that must not be served, and returns the reason; nil if the engine has no Preflight.
	Forbid func(Place) (Place, fault.Reason)
	// Damaged holds, by name, the ways to damage a login's material that only this engine can detect; there may be none.
	Damaged map[string]func(credential.Material) credential.Material
	// Foreign creates the login as an administrator would by hand: it can log in with the password, and has no marker.
	Foreign func(t *testing.T, at Place, login, password string)
	// Accepts reports whether a client of the server can log in, without using the engine.
	Accepts func(t *testing.T, at Place, login, password string) bool
	// Connect logs a client in under the application name and keeps it connected until disconnect is called.
	Connect func(t *testing.T, at Place, login, password, client string) (disconnect func())
	// Outage makes the server unreachable until end is called.
	Outage func(t *testing.T) (end func())
	// Open makes the server accept every password until end is called.
	Open func(t *testing.T) (end func())
	// Cripple holds, by name, the ways in which an administrator makes a login unusable without changing its password.
	// Staging the login's version again repairs it.
	Cripple map[string]func(t *testing.T, at Place, login string)
	// Block makes the target itself unusable until end is called; staging does not repair that.
	Block func(t *testing.T, at Place) (end func())
	// Log returns everything that the server has logged; nil if it has no log.
	Log func() string
	// Patience is how long to wait for an answer that is lost; 0 for the default.
	Patience time.Duration
}

// suite is one run of the contract.
type suite struct {
	Harness
	*sourcetest.Suite
}

// Run tests an engine against its contract. It runs the cases one after another, because some take the server down.
func Run(t *testing.T, harness Harness) {
	t.Helper()
	s := &suite{Harness: harness}
	s.Suite = sourcetest.NewSuite(sourcetest.Harness{
		Traits: s.shape(t, s.Fresh(t).Target).Traits, Powers: harness.Powers, Outage: harness.Outage, Open: harness.Open, Log: harness.Log, Patience: harness.Patience,
		Fresh: func(t *testing.T) sourcetest.Subject { t.Helper(); return s.subject(s.Fresh(t)) },
	})
	s.Run(t)
	for _, tc := range []struct {
		promise string
		check   func(*suite, *testing.T)
	}{
		{"the shape follows from the target alone", (*suite).shaped},
		{"a login that a Secret shows is completed to what was proposed", (*suite).completed},
		{"a Secret holds the login, the address and everything in one URI", (*suite).bound},
		{"a login is as long as the engine allows, and no longer", (*suite).longNames},
		{"settings that the engine does not know are refused", (*suite).unknownSettings},
		{"a strategy that the engine does not have is refused", (*suite).unknownStrategy},
		{"a check names the version, and is transient while the server is unreachable", (*suite).checked},
	} {
		t.Run(tc.promise, func(t *testing.T) { tc.check(s, t) })
	}
	s.NoLeak(t)
}

// subject returns a place as sourcetest sees it.
func (s *suite) subject(at Place) sourcetest.Subject {
	h := s.Harness
	secrets := func(material credential.Material) (login, password string) {
		return material.String(credential.KeyUsername), material.String(credential.KeyPassword)
	}
	out := sourcetest.Subject{
		Source: func(t *testing.T) credential.Source { t.Helper(); return s.open(t, at) },
		Accepts: func(t *testing.T, material credential.Material) bool {
			t.Helper()
			login, password := secrets(material)
			return h.Accepts(t, at, login, password)
		},
		Damaged: map[string]func(credential.Material) credential.Material{
			"no password":    func(m credential.Material) credential.Material { return m.With(credential.KeyPassword, nil) },
			"nothing at all": func(credential.Material) credential.Material { return credential.Material{} },
			"another user":   func(m credential.Material) credential.Material { return m.With(credential.KeyUsername, []byte("root")) },
		},
		Cripple: map[string]func(*testing.T, credential.Material){},
		Block:   func(t *testing.T) func() { t.Helper(); return h.Block(t, at) },
		Foreign: func(t *testing.T, slot string) credential.Material {
			t.Helper()
			login, password := s.shape(t, at.Target).Logins[slot], "Made-by-hand-0123456789"
			h.Foreign(t, at, login, password)
			return credential.Material{credential.KeyUsername: credential.SensitiveString(login), credential.KeyPassword: credential.SensitiveString(password)}
		},
		WithoutCreating: func(t *testing.T) credential.Source {
			t.Helper()
			without := at
			without.Target.Create = false
			return s.open(t, without)
		},
		Connect: func(t *testing.T, material credential.Material, client string) func() {
			t.Helper()
			login, password := secrets(material)
			return h.Connect(t, at, login, password, client)
		},
		Forbidden: func(t *testing.T) (credential.Source, fault.Reason) {
			t.Helper()
			forbidden, reason := h.Forbid(at)
			return s.open(t, forbidden), reason
		},
	}
	maps.Copy(out.Damaged, h.Damaged)
	if slots := s.Traits.Slots; len(slots) > 1 {
		other := s.other(at, slots[1])
		out.Damaged["another login"] = func(m credential.Material) credential.Material { return m.With(credential.KeyUsername, []byte(other)) }
	}
	for name, cripple := range h.Cripple {
		out.Cripple[name] = func(t *testing.T, material credential.Material) {
			t.Helper()
			cripple(t, at, material.String(credential.KeyUsername))
		}
	}
	return out
}

// other returns the login in another slot; empty if there is no shape.
func (s *suite) other(at Place, slot string) string {
	shape, err := s.Engine.Shape(at.Target)
	if err != nil {
		return ""
	}
	return shape.Logins[slot]
}

// open returns a session, closed when the test ends.
func (s *suite) open(t *testing.T, at Place) database.Session {
	t.Helper()
	session, err := s.Engine.Open(t.Context(), at.Server, at.Target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	return session
}

func (s *suite) shape(t *testing.T, target database.Target) database.Shape {
	t.Helper()
	shape, err := s.Engine.Shape(target)
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

// refs returns a version in every slot of a shape.
func refs(shape database.Shape) []credential.Ref {
	var out []credential.Ref
	for slot := range shape.Logins {
		out = append(out, credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: 1, Slot: slot})
	}
	return out
}

func (s *suite) shaped(t *testing.T) {
	t.Helper()
	at := s.Fresh(t)
	shape, on := s.shape(t, at.Target), s.open(t, at)
	if diff := cmp.Diff(shape.Traits, on.Traits()); diff != "" {
		t.Errorf("a session has other traits: %s", diff)
	}
	slots := shape.Traits.Slots
	if len(slots) == 0 {
		slots = []string{""}
	}
	if len(shape.Logins) != len(slots) {
		t.Errorf("%d logins in %d slots", len(shape.Logins), len(slots))
	}
	for _, ref := range refs(shape) {
		if !slices.Contains(slots, ref.Slot) {
			t.Errorf("there is a login in slot %q, which does not exist", ref.Slot)
		}
		proposed, err := on.Propose(ref)
		s.MustNot(t, err)
		s.Remember(proposed.String(credential.KeyPassword))
		if got := proposed.String(credential.KeyUsername); got != shape.Logins[ref.Slot] {
			t.Errorf("slot %q has login %q, and %q is proposed", ref.Slot, shape.Logins[ref.Slot], got)
		}
		if got := len(proposed.String(credential.KeyPassword)); got != at.Target.PasswordLength {
			t.Errorf("the password has %d characters, want %d", got, at.Target.PasswordLength)
		}
	}
	if info := s.Engine.Info(); info.Name == "" || info.MaxLogin <= 0 || shape.SecretType == "" {
		t.Errorf("the engine describes itself as %+v, with Secrets of type %q", info, shape.SecretType)
	}
}

// completed tests what a rebuilt ledger needs: a Secret contains only username and password.
func (s *suite) completed(t *testing.T) {
	t.Helper()
	at := s.Fresh(t)
	shape, on := s.shape(t, at.Target), s.open(t, at)
	ref := refs(shape)[0]
	proposed, err := on.Propose(ref)
	s.MustNot(t, err)
	s.Remember(proposed.String(credential.KeyPassword))
	staged, err := on.Stage(s.Context(t), credential.Change{Ref: ref, Material: proposed})
	s.MustNot(t, err)
	shown := credential.Material{}
	for _, key := range []string{credential.KeyUsername, credential.KeyPassword} {
		shown[key] = staged.Material[key]
	}
	whole, err := shape.Complete(shown)
	s.MustNot(t, err)
	if diff := cmp.Diff(staged.Material.Keys(), whole.Keys()); diff != "" {
		t.Errorf("keys other than those proposed: %s", diff)
	}
	_, err = on.Stage(s.Context(t), credential.Change{Ref: ref, Material: whole})
	s.MustNot(t, err)
	answer, err := on.Verify(s.Context(t), ref, whole)
	s.MustNot(t, err)
	if answer != credential.Accepted {
		t.Errorf("the completed login is %s", answer)
	}
}

func (s *suite) bound(t *testing.T) {
	t.Helper()
	at := s.Fresh(t)
	shape, on := s.shape(t, at.Target), s.open(t, at)
	login, err := on.Propose(refs(shape)[0])
	s.MustNot(t, err)
	s.Remember(login.String(credential.KeyPassword))
	data := shape.Bind(at.Server, login)
	for key := range data {
		if !slices.Contains(shape.DataKeys, key) {
			t.Errorf("key %s is not one of DataKeys", key)
		}
	}
	for _, key := range []string{"type", "provider", "host", "port", "username", "password", "uri"} {
		if len(data[key]) == 0 {
			t.Errorf("key %s is missing", key)
		}
	}
	for _, key := range []string{credential.KeyUsername, credential.KeyPassword} {
		if string(data[key]) != login.String(key) {
			t.Errorf("key %s is not that of the login", key)
		}
	}
	if shape.SecretType != "servicebinding.io/"+string(data["type"]) {
		t.Errorf("type %s in a Secret of type %s", data["type"], shape.SecretType)
	}
}

func (s *suite) longNames(t *testing.T) {
	t.Helper()
	at, info := s.Fresh(t), s.Engine.Info()
	suffix := 0
	for _, login := range s.shape(t, at.Target).Logins {
		suffix = max(suffix, len(login)-len(at.Target.Username))
	}
	for length, wanted := range map[int]fault.Reason{info.MaxLogin: "", info.MaxLogin + 1: fault.UsernameForbidden} {
		long := at.Target
		long.Username = strings.Repeat("x", length-suffix)
		_, err := s.Engine.Shape(long)
		s.Heard(err)
		if got := fault.ReasonOf(err, ""); got != wanted {
			t.Errorf("a login of %d bytes: %v, want %q", length, err, wanted)
		}
	}
}

func (s *suite) unknownSettings(t *testing.T) {
	t.Helper()
	at := s.Fresh(t)
	strange := at
	strange.Target.Settings, strange.Server.Settings = []byte(`{"thatNoEngineHas": true}`), []byte(`{"thatNoEngineHas": true}`)
	_, err := s.Engine.Shape(strange.Target)
	s.WantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported)
	_, err = s.Engine.Open(t.Context(), strange.Server, at.Target)
	s.WantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported)
	_, err = s.Engine.Open(t.Context(), at.Server, strange.Target)
	s.WantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported)
	_, err = s.Engine.Check(t.Context(), strange.Server)
	s.WantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported)
}

func (s *suite) unknownStrategy(t *testing.T) {
	t.Helper()
	strange := s.Fresh(t).Target
	strange.Strategy = "ThatNoEngineHas"
	_, err := s.Engine.Shape(strange)
	s.WantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported)
}

func (s *suite) checked(t *testing.T) {
	t.Helper()
	at := s.Fresh(t)
	at.Server.Credentials = [][]byte{at.Target.Settings}
	report, err := s.Engine.Check(s.Context(t), at.Server)
	s.MustNot(t, err)
	if report.Version == "" {
		t.Error("the report names no version")
	}
	end := s.Outage(t)
	defer end()
	_, err = s.Engine.Check(s.Context(t), at.Server)
	s.Heard(err)
	if fault.Classify(err) != fault.ClassTransient {
		t.Errorf("got %v, want a transient error", err)
	}
}
