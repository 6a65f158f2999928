// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// TestEverySQLSTATEWeCanProvokeHasAMeaning makes a real server return each code, and checks what our own calls make of it,
// or, if none of our calls can meet it in a test, the translation.
func TestEverySQLSTATEWeCanProvokeHasAMeaning(t *testing.T) {
	l := labOf(t, 18)
	s := open(t, l.target())
	ask := func(statements ...string) func(*testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			conn, err := l.Connect(t.Context(), "postgres")
			if err != nil {
				return err
			}
			defer hangUp(context.Background(), conn)
			for _, statement := range statements {
				if _, err = conn.Exec(t.Context(), statement); err != nil {
					return err
				}
			}
			return nil
		}
	}
	loginAs := func(user, password, database string) func(*testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			conn, err := l.client(t.Context(), database, user, password, "sqlstate")
			if err == nil {
				hangUp(context.Background(), conn)
			}
			return err
		}
	}
	mustExec(t, l, "CREATE ROLE plain LOGIN PASSWORD 'plain-0123456789'", "CREATE ROLE closed NOLOGIN PASSWORD 'closed-0123456789'", "CREATE ROLE full LOGIN CONNECTION LIMIT 0 PASSWORD 'full-0123456789'",
		"CREATE DATABASE shut ALLOW_CONNECTIONS false", "CREATE DATABASE guarded", "REVOKE CONNECT ON DATABASE guarded FROM PUBLIC", "CREATE TABLE held (n int)")
	kill := func(t *testing.T) error {
		t.Helper()
		conn, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			return err
		}
		defer hangUp(context.Background(), conn)
		mustExec(t, l, fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", conn.PgConn().PID()))
		_, err = conn.Exec(t.Context(), "SELECT 1")
		return err
	}
	locked := func(t *testing.T) error {
		t.Helper()
		conn, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			return err
		}
		defer hangUp(context.Background(), conn)
		if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE held"); err != nil {
			return err
		}
		return ask("SET lock_timeout = '20ms'", "TABLE held")(t)
	}
	cases := map[string]struct {
		provoke func(*testing.T) error
		class   fault.Class
		reason  fault.Reason
	}{
		"28P01": {loginAs("plain", "wrong", "postgres"), fault.ClassTransient, fault.CandidateRejected},
		"28000": {loginAs("closed", "closed-0123456789", "postgres"), fault.ClassBlocked, fault.LoginForbidden},
		"3D000": {loginAs("plain", "plain-0123456789", "nowhere"), fault.ClassBlocked, fault.DatabaseNotFound},
		"53300": {loginAs("full", "full-0123456789", "postgres"), fault.ClassTransient, fault.ServerNotReady},
		"55000": {loginAs("plain", "plain-0123456789", "shut"), fault.ClassBlocked, fault.LoginForbidden},
		"42501": {loginAs("plain", "plain-0123456789", "guarded"), fault.ClassPermanent, fault.PrivilegeMissing},
		"25006": {ask("BEGIN READ ONLY; CREATE ROLE nobody_new"), fault.ClassBlocked, fault.ServerReadOnly},
		"42704": {ask("ALTER ROLE nobody_there LOGIN"), fault.ClassTransient, fault.RemoteFailed},
		"42710": {ask("CREATE ROLE plain"), fault.ClassTransient, fault.RemoteFailed},
		"42601": {ask("ALTER NONSENSE"), fault.ClassPermanent, fault.ServerUnsupported},
		"42P01": {ask("TABLE nothing_there"), fault.ClassPermanent, fault.ServerUnsupported},
		"22023": {ask("SET statement_timeout = 'soon'"), fault.ClassPermanent, fault.ServerUnsupported},
		"0A000": {ask("TABLE elsewhere.pg_catalog.pg_class"), fault.ClassPermanent, fault.ServerUnsupported},
		"55P03": {locked, fault.ClassTransient, fault.LockTimeout},
		"57014": {ask("SET statement_timeout = '10ms'", "SELECT pg_sleep(5)"), fault.ClassTransient, fault.LockTimeout},
		"57P01": {kill, fault.ClassTransient, fault.ServerNotReady},
		"25P03": {func(t *testing.T) error {
			t.Helper()
			conn, err := l.Connect(t.Context(), "postgres")
			if err != nil {
				return err
			}
			defer hangUp(context.Background(), conn)
			if _, err := conn.Exec(t.Context(), "SET idle_in_transaction_session_timeout = '10ms'; BEGIN"); err != nil {
				return err
			}
			_, err = conn.PgConn().ReceiveMessage(t.Context())
			return err
		}, fault.ClassTransient, fault.ServerUnreachable},
		"57P05": {func(t *testing.T) error {
			t.Helper()
			conn, err := l.Connect(t.Context(), "postgres")
			if err != nil {
				return err
			}
			defer hangUp(context.Background(), conn)
			if _, err := conn.Exec(t.Context(), "SET idle_session_timeout = '10ms'"); err != nil {
				return err
			}
			_, err = conn.PgConn().ReceiveMessage(t.Context())
			return err
		}, fault.ClassTransient, fault.ServerUnreachable},
		"25P04": {ask("SET transaction_timeout = '10ms'; BEGIN; SELECT pg_sleep(5)"), fault.ClassTransient, fault.LockTimeout},
		"2BP01": {ask("CREATE ROLE has_things", "CREATE TABLE its_thing (n int)", "ALTER TABLE its_thing OWNER TO has_things", "DROP ROLE has_things"), fault.ClassPermanent, fault.RemoteFailed},
		"55006": {ask("DROP DATABASE postgres"), fault.ClassTransient, fault.RemoteFailed},
		"40P01": {raise("40P01"), fault.ClassTransient, fault.LockTimeout},
		"40001": {raise("40001"), fault.ClassTransient, fault.LockTimeout},
		"F0000": {raise("F0000"), fault.ClassTransient, fault.ServerNotReady},
		"57P03": {raise("57P03"), fault.ClassTransient, fault.ServerNotReady},
		"57P04": {raise("57P04"), fault.ClassBlocked, fault.DatabaseNotFound},
		"08006": {raise("08006"), fault.ClassTransient, fault.ServerUnreachable},
		"08P01": {raise("08P01"), fault.ClassPermanent, fault.ServerUnsupported},
		"53200": {raise("53200"), fault.ClassTransient, fault.ServerNotReady},
		"58030": {raise("58030"), fault.ClassTransient, fault.ServerNotReady},
		"XX000": {raise("XX000"), fault.ClassTransient, fault.RemoteFailed},
		"XX001": {raise("XX001"), fault.ClassTransient, fault.RemoteFailed},
		"P0001": {raise("P0001"), fault.ClassTransient, fault.RemoteFailed},
		"ZZ999": {raise("ZZ999"), fault.ClassTransient, fault.RemoteFailed},
	}
	for code, tc := range cases {
		t.Run(code, func(t *testing.T) {
			var err error
			if tc.provoke == nil {
				err = ask("DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '" + code + "'; END $$")(t)
			} else {
				err = tc.provoke(t)
			}
			var answer *pgconn.PgError
			if !errors.As(err, &answer) || answer.Code != code {
				t.Fatalf("the server answered %v, not %s", err, code)
			}
			got := s.endpoint.statementFault(err, "trying")
			wantFault(t, got, tc.class, tc.reason, code, "trying on localhost:")
			if strings.Contains(got.Error(), answer.Message) {
				t.Errorf("%q passes on the server's text", got)
			}
		})
	}
	// Every entry of the table was hit, by its code or by its first two letters.
	for code := range meanings {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(cases)), func(met string) bool { return strings.HasPrefix(met, code) }) {
			t.Errorf("no case provokes %s", code)
		}
	}
}

// raise marks codes that a server returns only in states that a test cannot create: a function raises them.
func raise(string) func(*testing.T) error { return nil }

// A statement whose client was killed can commit later. As long as it can, the answer is never Rejected.
func TestALateCommitIsNeverMistakenForARefusal(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		s := open(t, target)
		r := testRef(1, "a")
		old := mustStage(t, s, r)
		s.drop(t.Context()) // the test does not wait for its own connection
		next := propose(t, target, "a")
		login := loginName(target, "a")

		blocker, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), blocker)
		if _, err := blocker.Exec(t.Context(), "BEGIN; ALTER ROLE "+ident(login)+" CONNECTION LIMIT 50"); err != nil {
			t.Fatal(err)
		}
		// The client that is killed: the admin's connection of another rekey, in the worst case, without a transaction.
		doomed, err := s.endpoint.connectAdmin(t.Context(), defaultMaintenance, applicationName(r))
		if err != nil {
			t.Fatal(err)
		}
		// The driver would send a cancel request when its connection breaks. A killed process does not.
		raw, err := doomed.PgConn().Hijack()
		if err != nil {
			t.Fatal(err)
		}
		raw.Frontend.Send(&pgproto3.Query{String: "ALTER ROLE " + ident(login) + " PASSWORD " + literal(next.String(credential.KeyVerifier))})
		if err := raw.Frontend.Flush(); err != nil {
			t.Fatal(err)
		}
		until(t, "the statement to wait", func() bool { return waits(t, l, raw.PID) })
		secured, ok := raw.Conn.(*tls.Conn)
		if !ok {
			t.Fatal("the connection has no TLS")
		}
		if err := secured.NetConn().Close(); err != nil {
			t.Fatal(err)
		}
		answer, err := s.Verify(t.Context(), r, next)
		if answer != credential.Unknown || fault.Classify(err) != fault.ClassPending || fault.RetryAfter(err) <= 0 {
			t.Errorf("while the change is under way: got %s, %v; want Unknown and Pending", answer, err)
		}
		wantAnswer(t, s, r, old, credential.Accepted)
		if _, err := blocker.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		until(t, "the late commit", func() bool {
			answer, _ := s.Verify(t.Context(), r, next)
			if answer == credential.Rejected {
				t.Fatal("Rejected, although the change was committed later")
			}
			return answer == credential.Accepted
		})
		wantAnswer(t, s, r, old, credential.Rejected)
	})
}

// waits reports whether a server process waits for a lock.
func waits(t *testing.T, l *lab, pid uint32) bool {
	t.Helper()
	conn, err := l.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(context.Background(), conn)
	var waiting bool
	err = conn.QueryRow(t.Context(), fmt.Sprintf("SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = %d", pid)).Scan(&waiting)
	if errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return waiting
}

// Another rekey without our lock writes a newer marker after our first check and before our change.
func TestTheMarkerIsReadAgainAfterTheChange(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		live := mustStage(t, s, testRef(1, "a"))
		login := ident(loginName(s.target, "a"))
		blocker, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), blocker)
		if _, err := blocker.Exec(t.Context(), "BEGIN; ALTER ROLE "+login+" CONNECTION LIMIT 50"); err != nil {
			t.Fatal(err)
		}
		pid := s.admin.PgConn().PID()
		proposed := propose(t, s.target, "a")
		staged := make(chan error, 1)
		go func() {
			_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(3, "a"), Material: proposed})
			staged <- err
		}()
		until(t, "our change to wait", func() bool { return waits(t, l, pid) })
		mustExec(t, l, "COMMENT ON ROLE "+login+" IS "+literal(markerText(testRef(9, "a"))))
		if _, err := blocker.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		wantFault(t, <-staged, fault.ClassPermanent, fault.Fenced, "version 9")
		wantAnswer(t, s, testRef(1, "a"), live, credential.Accepted)
	})
}

func TestVerifyAcceptsWithoutTheAdminAndRefusesOnlyWithIt(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		r := testRef(1, "a")
		got := mustStage(t, open(t, target), r)
		target.Server.Admin.Password = credential.SensitiveString("wrong-0123456789")
		s := open(t, target)
		wantAnswer(t, s, r, got, credential.Accepted)
		answer, err := s.Verify(t.Context(), r, propose(t, target, "a"))
		wantFault(t, err, fault.ClassBlocked, fault.AdminRejected, "adminSecretRef")
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}
	})
}

func TestALockHeldByAnotherSessionTimesOut(t *testing.T) {
	l := labOf(t, 15)
	s := open(t, l.target())
	first := mustStage(t, s, testRef(1, "a"))
	blocker, err := l.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(context.Background(), blocker)
	if _, err := blocker.Exec(t.Context(), "BEGIN; ALTER ROLE "+ident(loginName(s.target, "a"))+" CONNECTION LIMIT 50"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = s.Stage(t.Context(), credential.Change{Ref: testRef(3, "a"), Material: propose(t, s.target, "a")})
	wantFault(t, err, fault.ClassTransient, fault.LockTimeout, "pg_locks")
	if took := time.Since(start); took > lockTimeout+5*time.Second {
		t.Errorf("it took %s", took)
	}
	wantAnswer(t, s, testRef(1, "a"), first, credential.Accepted)
}
