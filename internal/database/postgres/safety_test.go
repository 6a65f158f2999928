// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// S7: what the owner of a schema plants there must not run with the admin's privileges, nor deceive Verify.
func TestPlantedFunctionsAndOperatorsAreNotUsed(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		plant := func(database string) {
			t.Helper()
			err := l.Exec(t.Context(), database,
				"CREATE SCHEMA IF NOT EXISTS evil", "CREATE TABLE IF NOT EXISTS evil.trap (who text)", "GRANT ALL ON SCHEMA evil TO PUBLIC", "GRANT ALL ON evil.trap TO PUBLIC",
				"CREATE OR REPLACE FUNCTION evil.bite() RETURNS bool LANGUAGE sql AS $$ INSERT INTO evil.trap VALUES (session_user); SELECT false $$",
				"CREATE OR REPLACE FUNCTION evil.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS $$ SELECT evil.bite() $$",
				"CREATE OR REPLACE FUNCTION evil.count(text) RETURNS bigint LANGUAGE sql AS $$ SELECT 0::bigint FROM evil.bite() $$",
				"CREATE OR REPLACE FUNCTION evil.eq(name, text) RETURNS bool LANGUAGE sql AS $$ SELECT evil.bite() $$",
				"CREATE OR REPLACE FUNCTION evil.eq2(name, name) RETURNS bool LANGUAGE sql AS $$ SELECT evil.bite() $$",
				"CREATE OR REPLACE FUNCTION evil.eq3(oid, oid) RETURNS bool LANGUAGE sql AS $$ SELECT evil.bite() $$",
				"DO $$ BEGIN CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.eq); EXCEPTION WHEN duplicate_function THEN NULL; END $$",
				"DO $$ BEGIN CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq2); EXCEPTION WHEN duplicate_function THEN NULL; END $$",
				"DO $$ BEGIN CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq3); EXCEPTION WHEN duplicate_function THEN NULL; END $$",
				"CREATE OR REPLACE VIEW evil.pg_roles AS SELECT * FROM pg_catalog.pg_roles WHERE false",
				"CREATE OR REPLACE VIEW evil.pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity WHERE false",
				"ALTER DATABASE "+database+" SET search_path = evil, pg_catalog")
			if err != nil {
				t.Fatal(err)
			}
		}
		plant("postgres")
		plant(testDatabase)
		mustExec(t, l, "ALTER ROLE rotator SET search_path = evil, pg_catalog")
		defer mustExec(t, l, "ALTER ROLE rotator RESET search_path", "ALTER DATABASE postgres RESET search_path", "ALTER DATABASE orders RESET search_path")
		s := open(t, l.target())
		if err := s.Preflight(t.Context(), testRef(1, "a")); err != nil {
			t.Error(err)
		}
		got := mustStage(t, s, testRef(1, "a"))
		wantAnswer(t, s, testRef(1, "a"), got, credential.Accepted)
		if _, err := s.Sessions(t.Context(), testRef(1, "a")); err != nil {
			t.Error(err)
		}
		if err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
			t.Error(err)
		}
		wantAnswer(t, s, testRef(1, "a"), got, credential.Rejected)
		if err := s.Remove(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
			t.Error(err)
		}
		for _, database := range []string{"postgres", testDatabase} {
			err := l.Exec(t.Context(), database, "SET search_path = pg_catalog", "DO $$ BEGIN ASSERT (SELECT count(*) FROM evil.trap) = 0; END $$")
			if err != nil {
				t.Errorf("the trap in %s was sprung: %v", database, err)
			}
		}
	})
}

// S8: names are quoted, whatever they contain.
func TestNamesAreQuoted(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		for i, name := range []string{`a"b`, `a'b`, `a\b`, `a b`, `a;DROP ROLE orders_owner;--`, `"; DROP ROLE orders_owner; --`, `a$$b`, `日本`, "a\nb", `%s%d`, `A`, `user`, `a.b`, `E'\''`} {
			t.Run(name, func(t *testing.T) {
				target := l.target()
				target.Username = fmt.Sprintf("%s%d", name, i)
				target.Owner = target.Username + "_owner"
				target.Server.AllowedUsernames, target.Server.AllowedOwners = []string{"*"}, []string{"*"}
				mustExec(t, l, "CREATE ROLE "+ident(target.Owner))
				defer func() {
					mustExec(t, l, "DROP ROLE IF EXISTS "+ident(loginName(target, slotA)), "DROP ROLE "+ident(target.Owner))
				}()
				if l.Version >= 16 {
					mustExec(t, l, "GRANT "+ident(target.Owner)+" TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
				}
				s := open(t, target)
				r := testRef(1, "a")
				r.Name, r.Namespace = "it's \\ \"quoted\"; --", "é"
				if err := s.Preflight(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				got := mustStage(t, s, r)
				wantAnswer(t, s, r, got, credential.Accepted)
				if err := s.Retire(t.Context(), credential.Change{Ref: r}); fault.ReasonOf(err, "") != fault.Fenced {
					t.Errorf("a marker with spaces in it is not a marker: got %v", err)
				}
				if err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); fault.ReasonOf(err, "") != fault.Fenced {
					t.Errorf("got %v, want Fenced", err)
				}
				good := testRef(1, "b")
				kept := mustStage(t, s, good)
				wantAnswer(t, s, good, kept, credential.Accepted)
				if err := s.Remove(t.Context(), credential.Change{Ref: good}); err != nil {
					t.Error(err)
				}
			})
		}
		mustExec(t, l, "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orders_owner'); END $$")
	})
}

func TestSettingsOfTheAdminDoNotBreakTheFence(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		mustExec(t, l, "ALTER ROLE rotator SET default_transaction_isolation = 'serializable'", "ALTER ROLE rotator SET standard_conforming_strings = off", "ALTER ROLE rotator SET client_encoding = 'LATIN1'",
			"ALTER ROLE rotator SET statement_timeout = '1ms'", "ALTER ROLE rotator SET lock_timeout = '1ms'")
		defer mustExec(t, l, "ALTER ROLE rotator RESET ALL")
		target := l.target()
		older, newer := open(t, target), open(t, target)
		for round := range int64(5) {
			first, second := propose(t, target, "a"), propose(t, target, "a")
			var wait sync.WaitGroup
			var lost, won error
			wait.Go(func() {
				_, lost = older.Stage(t.Context(), credential.Change{Ref: testRef(2*round+1, "a"), Material: first})
			})
			wait.Go(func() {
				_, won = newer.Stage(t.Context(), credential.Change{Ref: testRef(2*round+2, "a"), Material: second})
			})
			wait.Wait()
			if won != nil || lost != nil && fault.ReasonOf(lost, "") != fault.Fenced {
				t.Fatalf("newer: %v; older: %v", won, lost)
			}
			wantAnswer(t, newer, testRef(2*round+2, "a"), second, credential.Accepted)
		}
	})
}

// Another client keeps altering the same login without taking our lock: the transaction is repeated.
func TestAnInterruptedTransactionIsRetried(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		mustStage(t, s, testRef(1, "a"))
		stop := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			conn, err := l.Connect(t.Context(), "postgres")
			if err != nil {
				return
			}
			defer hangUp(context.Background(), conn)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					_, _ = conn.Exec(t.Context(), fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", ident(loginName(s.target, "a")), 50+n%2))
				}
			}
		})
		for seq := range int64(8) {
			_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(seq+1, "a"), Material: propose(t, s.target, "a")})
			if err != nil && fault.Classify(err) != fault.ClassTransient {
				t.Errorf("got %v, want success or a transient error", err)
			}
		}
		close(stop)
		wait.Wait()
		got := mustStage(t, s, testRef(99, "a"))
		wantAnswer(t, s, testRef(99, "a"), got, credential.Accepted)
	})
}

func TestStageRepairsWhatAnAdministratorDidToTheLogin(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		login := ident(loginName(s.target, "a"))
		for name, statement := range map[string]string{
			"expired":          "ALTER ROLE " + login + " VALID UNTIL '2020-01-01'",
			"closed":           "ALTER ROLE " + login + " NOLOGIN",
			"another password": "ALTER ROLE " + login + " PASSWORD 'another-0123456789'",
			"another role":     "ALTER ROLE " + login + " RESET role",
			"not a member":     "REVOKE orders_owner FROM " + login + map[bool]string{true: " GRANTED BY rotator"}[l.Version >= 16],
			"no password":      "ALTER ROLE " + login + " PASSWORD NULL",
		} {
			t.Run(name, func(t *testing.T) {
				mustExec(t, l, statement)
				if answer, _ := s.Verify(t.Context(), r, got); answer == credential.Accepted {
					t.Fatal("the login works anyway")
				}
				if _, err := s.Stage(t.Context(), credential.Change{Ref: r, Material: got}); err != nil {
					t.Fatal(err)
				}
				wantAnswer(t, s, r, got, credential.Accepted)
			})
		}
	})
}

func TestRetireLeavesNoPasswordBehind(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		mustStage(t, s, testRef(1, "a"))
		if err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
			t.Fatal(err)
		}
		mustExec(t, l, "DO $$ BEGIN ASSERT (SELECT rolpassword IS NULL AND NOT rolcanlogin FROM pg_authid WHERE rolname = '"+loginName(s.target, "a")+"'); END $$")
		// Even if the server requests no password from any client, a closed login is refused, and Retire detects that.
		if err := l.SetHBA(t.Context(), "host all rotator all scram-sha-256", trustAll); err != nil {
			t.Fatal(err)
		}
		err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")})
		if hba := l.SetHBA(t.Context()); err != nil || hba != nil {
			t.Error(err, hba)
		}
	})
}

func TestSessionsShowAddressesAndTimesOnlyWithTheRight(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		for _, name := range []string{"one", "two", "three", "four", "five", "six", ""} {
			conn, err := l.client(t.Context(), testDatabase, got.String(credential.KeyUsername), got.String(credential.KeyPassword), name)
			if err != nil {
				t.Fatal(err)
			}
			defer hangUp(context.Background(), conn)
		}
		before, err := s.Sessions(t.Context(), r)
		if err != nil || before.Count != 7 || !before.Oldest.IsZero() {
			t.Errorf("without the privilege: %+v, %v", before, err)
		}
		mustExec(t, l, "GRANT pg_read_all_stats TO rotator", "ALTER ROLE rotator SET DateStyle = 'German'")
		defer mustExec(t, l, "REVOKE pg_read_all_stats FROM rotator", "ALTER ROLE rotator RESET DateStyle")
		after, err := open(t, s.target).Sessions(t.Context(), r)
		if err != nil || after.Count != 7 || after.Oldest.IsZero() {
			t.Errorf("with the privilege: %+v, %v", after, err)
		}
		if diff := cmp.Diff([]string{"127.0.0.1", "five", "four", "one", "six"}, after.Clients); diff != "" {
			t.Error(diff)
		}
	})
}

func TestASessionOutlivesItsConnection(t *testing.T) {
	l := labOf(t, 15)
	s := open(t, l.target())
	r := testRef(1, "a")
	got := mustStage(t, s, r)
	mustExec(t, l, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'rotator'")
	if _, err := s.Marker(t.Context(), r); err != nil {
		t.Errorf("after the server ended the connection: %v", err)
	}
	if err := l.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Marker(t.Context(), r); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	s.Close()
	wantAnswer(t, s, r, got, credential.Accepted)
	s.Close()
	until(t, "all our connections to end", func() bool {
		return l.Exec(t.Context(), "postgres", "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'rekey%'); END $$") == nil
	})
}

// A whole life cycle, with a commit that waits in between: the marker and the lock are per server, not per database.
func TestTwoDatabasesOfOneServerShareTheLock(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		elsewhere := target
		elsewhere.Database = "template1"
		one, two := open(t, target), open(t, elsewhere)
		var wait sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []*session{one, two} {
			material := propose(t, target, "a")
			wait.Go(func() { _, errs[i] = s.Stage(t.Context(), credential.Change{Ref: testRef(1, "a"), Material: material}) })
		}
		wait.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
	})
}
