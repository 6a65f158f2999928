// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/netguard"
	"github.com/rekey/rekey/internal/password"
)

// Limits for everything that could block. The server's own are shorter than a call's, so that it stops first and reports
// why.
const (
	defaultCallTimeout    = 25 * time.Second
	defaultConnectTimeout = 5 * time.Second
	lockTimeout           = 5 * time.Second
	statementTimeout      = 10 * time.Second
	idleTimeout           = 10 * time.Second // inside a transaction
	sessionTimeout        = time.Minute      // outside a transaction: a connection whose client has vanished
	closeTimeout          = 2 * time.Second
)

// Options of an engine. The zero value is ready to use.
type Options struct {
	// Dialer resolves and connects; nil means one of the engine's own, with the system's resolver.
	Dialer *netguard.Dialer
	// CallTimeout limits every method of a session, in addition to the deadline of its context; 0 means 25 seconds.
	CallTimeout time.Duration
	// ConnectTimeout limits one attempt to connect and log in; 0 means 5 seconds.
	ConnectTimeout time.Duration
	// Tracer sees every statement on every connection; nil means none.
	Tracer pgx.QueryTracer
}

// engine implements database.Engine.
type engine struct{ options Options }

// New returns the engine for PostgreSQL.
func New(options Options) database.Engine {
	if options.Dialer == nil {
		options.Dialer = &netguard.Dialer{}
	}
	if options.CallTimeout == 0 {
		options.CallTimeout = defaultCallTimeout
	}
	if options.ConnectTimeout == 0 {
		options.ConnectTimeout = defaultConnectTimeout
	}
	return &engine{options: options}
}

// Open implements database.Engine. It only checks the target: the first call that needs a connection opens it.
func (e *engine) Open(_ context.Context, on database.Server, of database.Target) (database.Session, error) {
	if _, err := e.Shape(of); err != nil {
		return nil, err
	}
	target, err := newTarget(on, of)
	if err != nil {
		return nil, err
	}
	to, err := newEndpoint(target.Server, e.options)
	if err != nil {
		return nil, err
	}
	return &session{target: target, endpoint: to, timeout: e.options.CallTimeout, turn: make(chan struct{}, 1)}, nil
}

// session implements database.Session, and credential.Remover, MarkerReader, SessionCounter, Heir and Preflighter.
type session struct {
	target   target
	endpoint *endpoint
	timeout  time.Duration

	turn  chan struct{} // holds one token while the admin's connection is in use
	admin *pgx.Conn
	name  string // application_name of the admin's connection
}

var (
	_ database.Session          = (*session)(nil)
	_ credential.Remover        = (*session)(nil)
	_ credential.MarkerReader   = (*session)(nil)
	_ credential.SessionCounter = (*session)(nil)
	_ credential.Heir           = (*session)(nil)
	_ credential.Preflighter    = (*session)(nil)
)

// Traits implements credential.Source.
func (s *session) Traits() credential.Traits { return traits() }

// Propose implements credential.Source: a new password, with its verifier.
func (s *session) Propose(ref credential.Ref) (credential.Material, error) {
	return scram.Login(loginName(s.target, ref.Slot), s.target.PasswordLength, password.Alphabet(s.target.PasswordAlphabet))
}

// Close implements database.Session. It waits for a call in progress.
func (s *session) Close() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.drop(context.Background()) //nolint:forbidigo // Close has no context; hanging up is bounded
}

// drop closes the admin's connection. The caller holds the turn.
func (s *session) drop(ctx context.Context) {
	if s.admin != nil {
		hangUp(ctx, s.admin)
		s.admin = nil
	}
}

// withAdmin runs fn on the admin's connection, which it opens if there is none. After an error the connection is not reused.
func (s *session) withAdmin(ctx context.Context, ref credential.Ref, fn func(context.Context, *pgx.Conn) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fault.Transient(fault.ServerUnreachable, errors.New("waiting for another call on the same session: it did not end in time"))
	}
	name := applicationName(ref)
	if s.admin != nil && (s.name != name || !s.alive(ctx)) {
		s.drop(ctx)
	}
	if s.admin == nil {
		conn, err := s.endpoint.connectMaintenance(ctx, name, s.target.Database)
		if err != nil {
			return err
		}
		s.admin, s.name = conn, name
	}
	err := fn(ctx, s.admin)
	if err != nil {
		s.drop(ctx)
	}
	return err
}

// alive reports whether the kept connection still answers, soon enough to open another one if not.
func (s *session) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.endpoint.timeout)
	defer cancel()
	return s.admin.Ping(ctx) == nil
}
