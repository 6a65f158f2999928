// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secondengine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/password"
	"github.com/rekey/rekey/internal/servicebinding"
)

// DualPassword is the engine's only strategy: one login accepts the old and the new password until the old one is retired.
const DualPassword database.Strategy = "DualPassword"

// MaxLogin is the maximum length of a login, in bytes.
const MaxLogin = 30

// SecretType is the type of the user's Secret.
const SecretType = "servicebinding.io/pair"

// user is a login: it accepts each of its passwords.
type user struct {
	passwords []string
	locked    bool
}

// Engine is the engine, and its only server.
type Engine struct {
	mu                   sync.Mutex
	users                map[string]*user
	down, trust, blocked bool
}

// New returns an engine with an empty server that is up.
func New() *Engine { return &Engine{users: map[string]*user{}} }

// settings is the engine's block in a credential's spec. Its fields are named like PostgreSQL's, under whose key it is registered.
// It ignores the owner, because it has no roles.
type settings struct {
	Database string `json:"database"`
	Owner    string `json:"owner"`
}

type serverSettings struct {
	AllowedOwners       []string `json:"allowedOwners"`
	MaintenanceDatabase string   `json:"maintenanceDatabase"`
}

// Info implements database.Engine.
func (e *Engine) Info() database.Info { return database.Info{Name: "Pair", MaxLogin: MaxLogin} }

// Shape implements database.Engine.
func (e *Engine) Shape(target database.Target) (database.Shape, error) {
	if target.Strategy != DualPassword {
		return database.Shape{}, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("the engine Pair has no strategy %q: use %s in a new object", target.Strategy, DualPassword))
	}
	if err := target.Strategy.CheckNames(e.Info(), target.Username); err != nil {
		return database.Shape{}, err
	}
	var own settings
	if err := database.DecodeSettings(target.Settings, &own, "the Pair settings of the credential"); err != nil {
		return database.Shape{}, err
	}
	return database.Shape{
		Traits: credential.Traits{Durable: true, Provable: true, Revocable: true}, Logins: target.Strategy.Logins(target.Username),
		SecretType: SecretType, DataKeys: slices.Clone(servicebinding.LoginKeys),
		Complete: func(login credential.Material) (credential.Material, error) { return login, nil },
		Bind: func(server database.Server, login credential.Material) map[string][]byte {
			to := servicebinding.Address{Host: server.Host, Port: server.Port, Certificates: server.CA}
			uri := servicebinding.URL("pair", login, to)
			return servicebinding.Login("pair", login, to, uri.String())
		},
	}, nil
}

// Check implements database.Engine.
func (e *Engine) Check(ctx context.Context, server database.Server) (database.Report, error) {
	if err := database.DecodeSettings(server.Settings, &serverSettings{}, "the Pair settings of the server"); err != nil {
		return database.Report{}, err
	}
	return database.Report{Version: "2.7"}, e.call(ctx, "checking the server", func() error { return nil })
}

// Open implements database.Engine.
func (e *Engine) Open(_ context.Context, server database.Server, target database.Target) (database.Session, error) {
	if _, err := e.Shape(target); err != nil {
		return nil, err
	}
	if err := database.DecodeSettings(server.Settings, &serverSettings{}, "the Pair settings of the server"); err != nil {
		return nil, err
	}
	return &session{engine: e, target: target}, nil
}

// call runs fn as one call to the server.
func (e *Engine) call(ctx context.Context, doing string, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("%s: no answer in time: %w", doing, err))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("%s: there is no connection", doing))
	}
	return fn()
}

// Passwords returns how many passwords a login accepts.
func (e *Engine) Passwords(login string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if found := e.users[login]; found != nil {
		return len(found.passwords)
	}
	return 0
}

// Backup returns a function that restores the present logins.
func (e *Engine) Backup() (restore func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	then := cloned(e.users)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.users = cloned(then)
	}
}

func cloned(users map[string]*user) map[string]*user {
	out := map[string]*user{}
	for name, found := range users {
		out[name] = &user{passwords: slices.Clone(found.passwords), locked: found.locked}
	}
	return out
}

// Exists reports whether a login exists.
func (e *Engine) Exists(login string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.users[login] != nil
}

// Accepts reports whether a client could log in now.
func (e *Engine) Accepts(login, with string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.accepts(login, with)
}

func (e *Engine) accepts(login, with string) bool {
	found := e.users[login]
	return found != nil && !found.locked && (e.trust || slices.Contains(found.passwords, with))
}

// session implements database.Session, credential.Remover and credential.Preflighter. It has no markers and counts no sessions.
type session struct {
	engine *Engine
	target database.Target
}

var (
	_ credential.Remover     = (*session)(nil)
	_ credential.Preflighter = (*session)(nil)
)

// Close implements database.Session.
func (s *session) Close() {}

// Traits implements credential.Source.
func (s *session) Traits() credential.Traits {
	return credential.Traits{Durable: true, Provable: true, Revocable: true}
}

// Propose implements credential.Source.
func (s *session) Propose(credential.Ref) (credential.Material, error) {
	secret, err := password.New(s.target.PasswordLength, password.Alphabet(s.target.PasswordAlphabet))
	if err != nil {
		return nil, err
	}
	return credential.Material{credential.KeyUsername: credential.SensitiveString(s.target.Username), credential.KeyPassword: secret}, nil
}

// Stage implements credential.Source: the login accepts the password too.
func (s *session) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	m := change.Material
	if m.String(credential.KeyUsername) != s.target.Username || m[credential.KeyPassword].IsEmpty() {
		return credential.Staged{}, fault.Permanent(fault.LedgerInvalid, errors.New("staging: the material is incomplete, or for another login"))
	}
	err := s.engine.call(ctx, "staging", func() error {
		if err := change.Confirm(ctx); err != nil {
			return err
		}
		found := s.engine.users[s.target.Username]
		if found == nil {
			if !s.target.Create {
				return fault.Blocked(fault.LoginNotFound, fmt.Errorf("staging login %q: it does not exist", s.target.Username))
			}
			found = &user{}
			s.engine.users[s.target.Username] = found
		}
		if with := m.String(credential.KeyPassword); !slices.Contains(found.passwords, with) {
			found.passwords = append(found.passwords, with)
		}
		found.locked = false
		return nil
	})
	return credential.Staged{Material: m.Clone()}, err
}

// Verify implements credential.Source.
func (s *session) Verify(ctx context.Context, _ credential.Ref, m credential.Material) (credential.Answer, error) {
	answer := credential.Unknown
	err := s.engine.call(ctx, "verifying", func() error {
		switch {
		case !s.engine.accepts(s.target.Username, m.String(credential.KeyPassword)):
			answer = credential.Rejected
		case s.engine.trust:
			return fault.Permanent(fault.AuthenticationNotEnforced, errors.New("verifying: a wrong password was accepted too"))
		case s.engine.blocked:
			answer = credential.Rejected
			return fault.Blocked(fault.DatabaseNotFound, errors.New("verifying: the database does not exist"))
		default:
			answer = credential.Accepted
		}
		return nil
	})
	return answer, err
}

// Retire implements credential.Source: the login refuses the password of that version.
func (s *session) Retire(ctx context.Context, change credential.Change) error {
	return s.engine.call(ctx, "retiring", func() error {
		if err := change.Confirm(ctx); err != nil {
			return err
		}
		if found := s.engine.users[s.target.Username]; found != nil {
			found.passwords = slices.DeleteFunc(found.passwords, func(have string) bool { return have == change.Material.String(credential.KeyPassword) })
		}
		return nil
	})
}

// Remove implements credential.Remover. A login that accepts the recorded password is ours: no other client has that password.
func (s *session) Remove(ctx context.Context, change credential.Change) error {
	return s.engine.call(ctx, "removing", func() error {
		if err := change.Confirm(ctx); err != nil {
			return err
		}
		if found := s.engine.users[s.target.Username]; found != nil && slices.Contains(found.passwords, change.Material.String(credential.KeyPassword)) {
			delete(s.engine.users, s.target.Username)
		}
		return nil
	})
}

// Preflight implements credential.Preflighter. It refuses a username that belongs to the server.
func (s *session) Preflight(ctx context.Context, _ credential.Ref) error {
	return s.engine.call(ctx, "checking what the credential needs", func() error {
		if s.target.Username == "root" {
			return fault.Permanent(fault.UsernameForbidden, errors.New("checking username \"root\": it belongs to the server: choose another one"))
		}
		return nil
	})
}
