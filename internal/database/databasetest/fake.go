// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/password"
)

// FakeLogin is a login of the fake server.
type FakeLogin struct {
	// Password is the accepted password; empty means none.
	Password string
	// CanLogin is false for a login that may not log in.
	CanLogin bool
	// Owner and Seq are the marker; empty and 0 if there is none.
	Owner string
	Seq   int64
	// Retired is true if version Seq was retired and can never be staged again.
	Retired bool
	// Sessions are the names of the connected clients.
	Sessions []string
}

// Fake is an in-memory database server with the logins of every target. The zero value is not usable: use NewFake.
type Fake struct {
	mu        sync.Mutex
	logins    map[string]*FakeLogin
	counts    map[string]int
	down      bool
	hang      bool
	before    map[string]func()
	trust     bool
	blocked   bool
	report    database.Report
	check     error
	preflight error
	// like is the engine whose shapes are used; nil for the fake's own.
	like database.Engine
}

// NewFake returns an empty server that is up, of a product of its own.
func NewFake() *Fake {
	return &Fake{logins: map[string]*FakeLogin{}, counts: map[string]int{}, report: database.Report{Version: "15.0"}}
}

// NewFakeOf returns an empty server in place of one of the engine's product: names, traits and Secrets are the engine's.
func NewFakeOf(engine database.Engine) *Fake {
	fake := NewFake()
	fake.like = engine
	return fake
}

func (f *Fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// SetDown sets whether every call fails as if the server were unreachable.
func (f *Fake) SetDown(down bool) { f.set(func() { f.down = down }) }

// SetHang sets whether every later call blocks until its context ends.
func (f *Fake) SetHang(hang bool) { f.set(func() { f.hang = hang }) }

// Before runs fn once at the start of the next call of the method.
func (f *Fake) Before(method string, fn func()) {
	f.set(func() {
		if f.before == nil {
			f.before = map[string]func(){}
		}
		f.before[method] = fn
	})
}

// SetTrust sets whether the server accepts every password.
func (f *Fake) SetTrust(trust bool) { f.set(func() { f.trust = trust }) }

// SetBlocked sets whether the database of every login is unusable.
func (f *Fake) SetBlocked(blocked bool) { f.set(func() { f.blocked = blocked }) }

// SetCheck sets the result of Check.
func (f *Fake) SetCheck(report database.Report, err error) {
	f.set(func() { f.report, f.check = report, err })
}

// SetPreflight sets the error of Preflight; with nil, Preflight checks the logins itself.
func (f *Fake) SetPreflight(err error) { f.set(func() { f.preflight = err }) }

// Put creates or replaces a login, as an administrator would.
func (f *Fake) Put(name string, login FakeLogin) { f.set(func() { f.logins[name] = &login }) }

// Drop removes a login, as an administrator would.
func (f *Fake) Drop(name string) { f.set(func() { delete(f.logins, name) }) }

// Login returns a copy of a login, and whether it exists.
func (f *Fake) Login(name string) (FakeLogin, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	login, ok := f.logins[name]
	if !ok {
		return FakeLogin{}, false
	}
	out := *login
	out.Sessions = slices.Clone(login.Sessions)
	return out, true
}

// Accepts reports whether a client could log in now.
func (f *Fake) Accepts(name, password string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepts(name, password)
}

func (f *Fake) accepts(name, password string) bool {
	login, ok := f.logins[name]
	if !ok || !login.CanLogin {
		return false
	}
	return f.trust || login.Password != "" && subtle.ConstantTimeCompare([]byte(login.Password), []byte(password)) == 1
}

// Calls returns how often a method was called: Stage, Verify, Retire, Remove, Marker, Sessions, Preflight or Check.
func (f *Fake) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[method]
}

// Open implements database.Engine.
func (f *Fake) Open(_ context.Context, server database.Server, target database.Target) (database.Session, error) {
	shape, err := f.Shape(target)
	if err != nil {
		return nil, err
	}
	session := &fakeSession{fake: f, server: server, target: target, shape: shape}
	if err := database.DecodeSettings(target.Settings, &session.settings, "the settings of the credential"); err != nil {
		return nil, err
	}
	if err := database.DecodeSettings(server.Settings, &session.allowed, "the settings of the server"); err != nil {
		return nil, err
	}
	return session, nil
}

// Check implements database.Engine.
func (f *Fake) Check(ctx context.Context, server database.Server) (database.Report, error) {
	var report database.Report
	var known fakeServerSettings
	if err := database.DecodeSettings(server.Settings, &known, "the settings of the server"); err != nil {
		return report, err
	}
	err := f.call(ctx, "Check", func() error {
		report = f.report
		return f.check
	})
	return report, err
}

// call runs fn as one call to the server: it is counted, and fails while the server is down or hangs.
func (f *Fake) call(ctx context.Context, method string, fn func() error) error {
	f.mu.Lock()
	f.counts[method]++
	hang, before := f.hang, f.before[method]
	delete(f.before, method)
	f.mu.Unlock()
	if before != nil {
		before()
	}
	if hang {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("calling %s: no answer in time: %w", method, err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("calling %s: there is no connection", method))
	}
	return fn()
}

// change runs fn as one call that changes a login, as if under a lock: it first confirms that the change is still wanted,
// and confirms again if another client has changed the login in the meantime.
func (f *Fake) change(ctx context.Context, wanted credential.Change, method, name string, fn func() error) error {
	for {
		before, was := f.Login(name)
		if err := wanted.Confirm(ctx); err != nil {
			return err
		}
		changed := false
		err := f.call(ctx, method, func() error {
			now, is := f.logins[name]
			changed = was != is || is && (before.Password != now.Password || before.Owner != now.Owner || before.Seq != now.Seq || before.CanLogin != now.CanLogin)
			if changed {
				return nil
			}
			return fn()
		})
		if !changed {
			return err
		}
	}
}

type fakeSession struct {
	fake     *Fake
	server   database.Server
	target   database.Target
	shape    database.Shape
	settings fakeSettings
	allowed  fakeServerSettings
}

var (
	_ credential.Remover        = (*fakeSession)(nil)
	_ credential.Owned          = (*fakeSession)(nil)
	_ credential.SessionCounter = (*fakeSession)(nil)
	_ credential.Preflighter    = (*fakeSession)(nil)
)

// Traits implements credential.Source.
func (s *fakeSession) Traits() credential.Traits { return s.shape.Traits }

// Close implements database.Session.
func (s *fakeSession) Close() {}

func (s *fakeSession) name(ref credential.Ref) (string, error) {
	name, ok := s.shape.Logins[ref.Slot]
	if !ok {
		return "", fault.Permanent(fault.LedgerInvalid, fmt.Errorf("finding the login of %s: there is no such slot", ref))
	}
	return name, nil
}

// Propose implements credential.Source.
func (s *fakeSession) Propose(ref credential.Ref) (credential.Material, error) {
	name, err := s.name(ref)
	if err != nil {
		return nil, err
	}
	return scram.Login(name, s.target.PasswordLength, password.Alphabet(s.target.PasswordAlphabet))
}

// Stage implements credential.Source.
func (s *fakeSession) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	ref, proposed := change.Ref, change.Material
	name, err := s.name(ref)
	if err != nil {
		return credential.Staged{}, err
	}
	if proposed.String(credential.KeyUsername) != name || proposed[credential.KeyPassword].IsEmpty() || proposed[credential.KeyVerifier].IsEmpty() {
		return credential.Staged{}, fault.Permanent(fault.LedgerInvalid, fmt.Errorf("staging login %q: the material is incomplete, or for another login", name))
	}
	err = s.fake.change(ctx, change, "Stage", name, func() error {
		for _, slot := range s.Traits().Slots {
			if sibling, ok := s.fake.logins[s.shape.Logins[slot]]; ok && sibling.Owner != "" && sibling.Owner != ref.Owner() {
				return s.mark(s.shape.Logins[slot], sibling, ref)
			}
		}
		login, ok := s.fake.logins[name]
		if !ok {
			if !s.target.Create {
				return fault.Blocked(fault.LoginNotFound, fmt.Errorf("staging login %q: it does not exist", name))
			}
			login = &FakeLogin{Owner: ref.Owner()}
		}
		if err := s.mark(name, login, ref); err != nil {
			return err
		}
		if login.Seq > ref.Seq || login.Seq == ref.Seq && login.Retired {
			return fault.Permanent(fault.Fenced, fmt.Errorf("staging login %q: it carries version %d already", name, login.Seq))
		}
		login.Password, login.CanLogin, login.Owner, login.Seq = proposed.String(credential.KeyPassword), true, ref.Owner(), ref.Seq
		login.Retired = false
		s.fake.logins[name] = login
		return nil
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return credential.Staged{Material: proposed.Clone()}, nil
}

// mark refuses a login without our marker.
func (s *fakeSession) mark(name string, login *FakeLogin, ref credential.Ref) error {
	switch login.Owner {
	case ref.Owner():
		return nil
	case "":
		return fault.Permanent(fault.LoginExists, fmt.Errorf("checking login %q: it was not created by rekey", name))
	}
	return fault.Permanent(fault.Fenced, fmt.Errorf("checking login %q: its marker names another owner", name))
}

// Verify implements credential.Source.
func (s *fakeSession) Verify(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Answer, error) {
	name, err := s.name(ref)
	if err != nil {
		return credential.Unknown, err
	}
	answer := credential.Unknown
	err = s.fake.call(ctx, "Verify", func() error {
		if !s.fake.accepts(name, material.String(credential.KeyPassword)) {
			answer = credential.Rejected
			return nil
		}
		if s.fake.blocked {
			answer = credential.Rejected
			return fault.Blocked(fault.DatabaseNotFound, errors.New("verifying: the database does not exist"))
		}
		if s.fake.trust && (s.server.NegativeControl != database.ControlAtFirst || credential.IsFirst(ctx)) {
			return fault.Permanent(fault.AuthenticationNotEnforced, errors.New("verifying: a wrong password was accepted too"))
		}
		answer = credential.Accepted
		return nil
	})
	return answer, err
}

// Retire implements credential.Source.
func (s *fakeSession) Retire(ctx context.Context, change credential.Change) error {
	ref := change.Ref
	name, err := s.name(ref)
	if err != nil {
		return err
	}
	return s.fake.change(ctx, change, "Retire", name, func() error {
		login, ok := s.fake.logins[name]
		if !ok {
			return nil
		}
		if login.Owner != ref.Owner() {
			return fault.Permanent(fault.Fenced, fmt.Errorf("retiring login %q: it does not carry our marker", name))
		}
		if login.Seq <= ref.Seq {
			login.CanLogin, login.Password, login.Seq, login.Retired = false, "", ref.Seq, true
		}
		return nil
	})
}

// Remove implements credential.Remover.
func (s *fakeSession) Remove(ctx context.Context, change credential.Change) error {
	ref := change.Ref
	name, err := s.name(ref)
	if err != nil {
		return err
	}
	return s.fake.change(ctx, change, "Remove", name, func() error {
		if login, ok := s.fake.logins[name]; ok && login.Owner == ref.Owner() {
			delete(s.fake.logins, name)
		}
		return nil
	})
}
