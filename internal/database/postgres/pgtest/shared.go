// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// Shared starts one server for each version on first use. The tests of a package share them; each test has its own logins.
type Shared struct {
	// Options are the options of every server; the version is set by Of.
	Options Options
	// Prepare, if set, sets up each server once.
	Prepare func(ctx context.Context, server *Server) error

	mu        sync.Mutex
	byVersion map[int]*Server
}

// Of returns the server of a version.
func (s *Shared) Of(tb testing.TB, version int) *Server {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if server := s.byVersion[version]; server != nil {
		return server
	}
	ctx, options := context.WithoutCancel(tb.Context()), s.Options
	options.Version = version
	server, err := Start(ctx, options)
	if err != nil {
		tb.Fatal(err)
	}
	if s.Prepare != nil {
		if err := s.Prepare(ctx, server); err != nil {
			server.Stop()
			tb.Fatal(err)
		}
	}
	if s.byVersion == nil {
		s.byVersion = map[int]*Server{}
	}
	s.byVersion[version] = server
	return server
}

// Stop stops the servers. TestMain calls it after the tests.
func (s *Shared) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.byVersion {
		server.Stop()
	}
	s.byVersion = nil
}

// StartFor starts a server for one test, which may damage it, and stops it after the test.
func StartFor(tb testing.TB, options Options) *Server {
	tb.Helper()
	server, err := Start(context.WithoutCancel(tb.Context()), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Stop)
	return server
}

// CreateAdmin creates a role for the admin login and a role that owns what the managed logins create, with the rights that the
// admin login needs. The password must not need quoting.
func (s *Server) CreateAdmin(ctx context.Context, admin, password, owner string) error {
	statements := []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", admin, password), fmt.Sprintf("CREATE ROLE %s NOLOGIN", owner),
	}
	if s.Version >= 16 {
		statements = append(statements, fmt.Sprintf("GRANT %s TO %s WITH ADMIN OPTION", owner, admin))
	}
	return s.Exec(ctx, "postgres", statements...)
}
