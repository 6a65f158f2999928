// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
)

// fullServer is a separate server with few connections, some of them reserved, and one credential.
type fullServer struct {
	*lab
	*session
	material credential.Material
	held     []*pgx.Conn
}

func newFullServer(t *testing.T, version int) *fullServer {
	t.Helper()
	settings := map[string]string{"max_connections": "12", "superuser_reserved_connections": "2", "max_wal_senders": "0", "wal_level": "minimal"}
	l := own(t, pgtest.Options{Version: version, Settings: settings})
	mustExec(t, l, "CREATE ROLE crowd LOGIN PASSWORD 'crowd-0123456789'")
	target := l.target()
	f := &fullServer{lab: l, session: open(t, target)}
	f.material = mustStage(t, f.session, testRef(1, "a"))
	wantAnswer(t, f.session, testRef(1, "a"), f.material, credential.Accepted)
	t.Cleanup(f.empty)
	return f
}

// fill opens connections until the server has none left for such a login.
func (f *fullServer) fill(t *testing.T, connect func(context.Context) (*pgx.Conn, error)) {
	t.Helper()
	for range 30 {
		conn, err := connect(t.Context())
		if err == nil {
			f.held = append(f.held, conn)
			continue
		}
		var said *pgconn.PgError
		if !errors.As(err, &said) || said.Code != "53300" {
			t.Fatalf("filling the server: %v", err)
		}
		t.Logf("the server says %q in %s", said.Message, said.Routine)
		return
	}
	t.Fatal("the server accepts 30 connections, want 12")
}

func (f *fullServer) empty() {
	for _, conn := range f.held {
		hangUp(context.Background(), conn)
	}
	f.held = nil
}

// TestAServerWithoutAFreeConnectionIsNamedAndRecovers uses up all connections of a real server: first all except those
// reserved for superusers, then those too.
func TestAServerWithoutAFreeConnectionIsNamedAndRecovers(t *testing.T) {
	for _, version := range pgtest.Versions {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			f := newFullServer(t, version)
			for _, phase := range []struct {
				name, words string
				connect     func(context.Context) (*pgx.Conn, error)
			}{
				{"only reserved connections are left", "superuser_reserved_connections", func(ctx context.Context) (*pgx.Conn, error) {
					return f.client(ctx, "postgres", "crowd", "crowd-0123456789", "crowd")
				}},
				{"no connection is left at all", "max_connections", func(ctx context.Context) (*pgx.Conn, error) { return f.Connect(ctx, "postgres") }},
			} {
				f.fill(t, phase.connect)
				_, err := testEngine().Check(t.Context(), encoded(f.server()))
				f.wantFull(t, phase.name+": the admin", err, phase.words)
				answer, err := f.Verify(t.Context(), testRef(1, "a"), f.material)
				if answer != credential.Unknown {
					t.Errorf("%s: the login is %s, want Unknown", phase.name, answer)
				}
				f.wantFull(t, phase.name+": the login", err, phase.words)
				// Another process, without a connection yet.
				another := open(t, f.session.target)
				_, err = another.Stage(t.Context(), credential.Change{Ref: testRef(2, "b"), Material: propose(t, f.session.target, "b")})
				f.wantFull(t, phase.name+": staging", err, phase.words)
			}
			f.empty()
			until(t, "the server admits the login again", func() bool {
				answer, _ := f.Verify(t.Context(), testRef(1, "a"), f.material)
				return answer == credential.Accepted
			})
			next := mustStage(t, f.session, testRef(2, "b"))
			wantAnswer(t, f.session, testRef(2, "b"), next, credential.Accepted)
		})
	}
}

func (f *fullServer) wantFull(t *testing.T, what string, err error, words string) {
	t.Helper()
	t.Logf("%s: %v", what, err)
	if err == nil || fault.Classify(err) != fault.ClassTransient || fault.ReasonOf(err, "") != fault.ServerNotReady {
		t.Errorf("%s: got class %s, reason %q (%v), want transient %s", what, fault.Classify(err), fault.ReasonOf(err, ""), err, fault.ServerNotReady)
		return
	}
	if !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "53300") || strings.Contains(err.Error(), "CONNECTION LIMIT") {
		t.Errorf("%s: the message does not name %s alone: %v", what, words, err)
	}
}
