// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
)

// This file covers PostgreSQL as found in the field: what administrators do to a login, a database, an owner or a server,
// and how rekey reacts. A broken login never passes as working, each cause is named, and Stage restores everything that it
// grants.

// setup is one such situation. %[1]s is the login, %[2]s its owner, %[3]s its database; each case has its own.
type setup struct {
	do, undo []string
	// hold is the number of the login's connections that stay open meanwhile.
	hold int
	// from is the first version that supports the setup; 0 means all.
	from int
	// answer is the answer of Verify; words are in its error.
	answer credential.Answer
	class  fault.Class
	reason fault.Reason
	words  []string
	// stage is the reason that staging the version again returns: the empty reason means that the login works again.
	stage fault.Reason
	// stageWords are in the error of Stage.
	stageWords []string
}

const (
	nothingStaged = fault.Reason("nothing is staged")
	rejected      = credential.Rejected
	unknown       = credential.Unknown
)

func setups() map[string]setup {
	lost := func(word string, do ...string) setup {
		return setup{do: do, answer: rejected, class: fault.ClassTransient, reason: fault.LoginForbidden, words: []string{word}}
	}
	refused := func(do ...string) setup { return setup{do: do, answer: rejected} }
	barred := func(reason fault.Reason, word, undo string, do ...string) setup {
		return setup{do: do, undo: []string{undo}, answer: rejected, class: fault.ClassBlocked, reason: reason, words: []string{word}, stage: nothingStaged}
	}
	harmless := func(do ...string) setup { return setup{do: do, answer: credential.Accepted, stage: nothingStaged} }
	member := func(from int, do ...string) setup {
		s := lost(`GRANT "%[2]s" TO "%[1]s"`, do...)
		s.from = from
		return s
	}
	out := map[string]setup{
		"the password was changed":                 refused("ALTER ROLE %[1]s PASSWORD 'another-0123456789'"),
		"the password was taken away":              refused("ALTER ROLE %[1]s PASSWORD NULL"),
		"the password is stored as MD5":            refused("SET password_encryption = md5; ALTER ROLE %[1]s PASSWORD 'another-0123456789'"),
		"the password has expired":                 refused("ALTER ROLE %[1]s VALID UNTIL '2020-01-01'"),
		"the password never was valid":             refused("ALTER ROLE %[1]s VALID UNTIL '-infinity'"),
		"the login was dropped":                    refused("DROP ROLE %[1]s"),
		"NOLOGIN":                                  lost(`ALTER ROLE "%[1]s" LOGIN`, "ALTER ROLE %[1]s NOLOGIN"),
		"a connection limit of 0":                  lost(`ALTER ROLE "%[1]s" CONNECTION LIMIT -1`, "ALTER ROLE %[1]s CONNECTION LIMIT 0"),
		"NOLOGIN and no membership":                lost(`ALTER ROLE "%[1]s" LOGIN`, "ALTER ROLE %[1]s NOLOGIN", "REVOKE %[2]s FROM %[1]s GRANTED BY rotator"),
		"the membership was revoked":               member(0, "REVOKE %[2]s FROM %[1]s GRANTED BY rotator"),
		"the membership may not be used":           member(16, "GRANT %[2]s TO %[1]s WITH SET FALSE GRANTED BY rotator"),
		"the membership is not inherited":          member(16, "GRANT %[2]s TO %[1]s WITH INHERIT FALSE GRANTED BY rotator", "ALTER ROLE %[1]s RESET role"),
		"the membership came from another grantor": member(16, "REVOKE %[2]s FROM %[1]s GRANTED BY rotator", "GRANT %[2]s TO %[1]s WITH SET FALSE"),
		"no membership, and only the owner may enter": member(0, "REVOKE CONNECT ON DATABASE %[3]s FROM PUBLIC", "GRANT CONNECT ON DATABASE %[3]s TO %[2]s",
			"REVOKE %[2]s FROM %[1]s GRANTED BY rotator"),
		"the role is not set":                       lost(`ALTER ROLE "%[1]s" SET role = '%[2]s'`, "ALTER ROLE %[1]s RESET role"),
		"all settings were reset":                   lost(`ALTER ROLE "%[1]s" SET role = '%[2]s'`, "ALTER ROLE %[1]s RESET ALL"),
		"another role is set":                       lost(`ALTER ROLE "%[1]s" SET role = '%[2]s'`, "ALTER ROLE %[1]s SET role = 'pg_monitor'"),
		"another role is set in its database":       lost(`ALTER ROLE "%[1]s" IN DATABASE "%[3]s" RESET role`, "ALTER ROLE %[1]s IN DATABASE %[3]s SET role = 'none'"),
		"a missing role is set":                     lost(`ALTER ROLE "%[1]s" SET role = '%[2]s'`, "ALTER ROLE %[1]s SET role = 'nobody_of_that_name'"),
		"another role is set in another database":   harmless("ALTER ROLE %[1]s IN DATABASE template1 SET role = 'none'"),
		"another role is set for all of a database": harmless("ALTER DATABASE %[3]s SET role = 'none'"),
		"CONNECT was revoked": barred(fault.LoginForbidden, `GRANT CONNECT ON DATABASE "%[3]s" TO "%[2]s"`, "GRANT CONNECT ON DATABASE %[3]s TO PUBLIC",
			"REVOKE CONNECT ON DATABASE %[3]s FROM PUBLIC", "REVOKE CONNECT ON DATABASE %[3]s FROM %[2]s"),
		"the database was renamed":              barred(fault.DatabaseNotFound, `CREATE DATABASE "%[3]s"`, "ALTER DATABASE %[3]s_old RENAME TO %[3]s", "ALTER DATABASE %[3]s RENAME TO %[3]s_old"),
		"the database was dropped":              barred(fault.DatabaseNotFound, `CREATE DATABASE "%[3]s"`, "CREATE DATABASE %[3]s OWNER %[2]s", "DROP DATABASE %[3]s"),
		"the database allows no one to connect": barred(fault.LoginForbidden, `ALTER DATABASE "%[3]s" ALLOW_CONNECTIONS true`, "ALTER DATABASE %[3]s ALLOW_CONNECTIONS true", "ALTER DATABASE %[3]s ALLOW_CONNECTIONS false"),
		"the database admits no connection":     barred(fault.LoginForbidden, `ALTER DATABASE "%[3]s" CONNECTION LIMIT -1`, "ALTER DATABASE %[3]s CONNECTION LIMIT -1", "ALTER DATABASE %[3]s CONNECTION LIMIT 0"),
		"a statement_timeout of 1ms":            harmless("ALTER ROLE %[1]s SET statement_timeout = '1ms'", "ALTER ROLE %[2]s SET statement_timeout = '1ms'", "ALTER DATABASE %[3]s SET statement_timeout = '1ms'"),
		"a misleading search_path":              harmless("ALTER ROLE %[1]s SET search_path = 'nowhere'", "ALTER DATABASE %[3]s SET search_path = ''"),
		"read only by default":                  harmless("ALTER ROLE %[1]s SET default_transaction_read_only = on"),
		"every statement in the log":            harmless("ALTER DATABASE %[3]s SET log_statement = 'all'", "ALTER DATABASE %[3]s SET log_min_duration_statement = 0"),
		"other encodings and formats":           harmless("ALTER ROLE %[1]s SET client_encoding = 'LATIN1'", "ALTER ROLE %[1]s SET DateStyle = 'German'", "ALTER ROLE %[1]s SET bytea_output = 'escape'"),
		"a membership with the admin option":    harmless("GRANT %[2]s TO %[1]s WITH ADMIN OPTION"),
		"memberships in other roles":            harmless("GRANT pg_monitor TO %[1]s"),
		"new passwords are stored as MD5":       harmless("ALTER DATABASE %[3]s SET password_encryption = md5", "ALTER ROLE rotator SET password_encryption = md5"),
		"a limit that leaves room":              harmless("ALTER ROLE %[1]s CONNECTION LIMIT 5", "ALTER DATABASE %[3]s CONNECTION LIMIT 20"),
		"the owner was dropped and recreated":   {do: []string{"DROP ROLE %[2]s", "CREATE ROLE %[2]s"}, answer: rejected, class: fault.ClassTransient, reason: fault.LoginForbidden, words: []string{`GRANT "%[2]s" TO "%[1]s"`}},
		"the owner was dropped": {do: []string{"DROP ROLE %[2]s"}, answer: rejected, class: fault.ClassTransient, reason: fault.LoginForbidden,
			words: []string{`GRANT "%[2]s" TO "%[1]s"`}, stage: fault.OwnerNotFound, stageWords: []string{`CREATE ROLE "%[2]s"`}},
		"a limit that is used up": {do: []string{"ALTER ROLE %[1]s CONNECTION LIMIT 1"}, undo: []string{"ALTER ROLE %[1]s CONNECTION LIMIT -1"}, hold: 1, answer: unknown, class: fault.ClassTransient,
			reason: fault.ServerNotReady, words: []string{`all 1 connections that login "%[1]s"`, `ALTER ROLE "%[1]s" CONNECTION LIMIT -1`}, stage: nothingStaged},
		"a database whose limit is used up": {do: []string{"ALTER DATABASE %[3]s CONNECTION LIMIT 2"}, undo: []string{"ALTER DATABASE %[3]s CONNECTION LIMIT -1"}, hold: 2, answer: unknown, class: fault.ClassTransient,
			reason: fault.ServerNotReady, words: []string{`all 2 connections that database "%[3]s"`, `ALTER DATABASE "%[3]s" CONNECTION LIMIT -1`}, stage: nothingStaged},
	}
	trigger := "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF session_user::text LIKE 'app%' THEN RAISE EXCEPTION 'no'; END IF; END $$; CREATE EVENT TRIGGER no ON login EXECUTE FUNCTION no(); ALTER EVENT TRIGGER no ENABLE ALWAYS"
	out["an event trigger refuses it"] = setup{do: []string{"in the database: " + trigger}, undo: []string{"in the database: DROP EVENT TRIGGER no"}, from: 17, answer: unknown, class: fault.ClassBlocked,
		reason: fault.LoginForbidden, words: []string{"event trigger ON login", "pg_event_trigger"}, stage: nothingStaged}
	return out
}

// estate is a login with its own owner and, if it needs one, its own database.
type estate struct {
	*session
	lab      *lab
	material credential.Material
}

func newEstate(t *testing.T, l *lab, database bool) *estate {
	t.Helper()
	target := l.target()
	target.Owner = target.Username + "_owner"
	target.Server.AllowedOwners = []string{target.Owner}
	mustExec(t, l, "CREATE ROLE "+target.Owner)
	if database {
		target.Database = target.Username + "_db"
		mustExec(t, l, "CREATE DATABASE "+target.Database+" OWNER "+target.Owner)
	}
	if l.Version >= 16 {
		mustExec(t, l, "GRANT "+target.Owner+" TO "+testAdmin+" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
	}
	e := &estate{session: open(t, target), lab: l}
	e.material = mustStage(t, e.session, testRef(1, "a"))
	wantAnswer(t, e.session, testRef(1, "a"), e.material, credential.Accepted)
	return e
}

// texts fills in the names of the estate.
func (e *estate) texts(of []string) []string {
	names := strings.NewReplacer("%[1]s", loginName(e.target, "a"), "%[2]s", e.target.Owner, "%[3]s", e.target.Database)
	var out []string
	for _, text := range of {
		out = append(out, names.Replace(text))
	}
	return out
}

func (e *estate) sql(t *testing.T, statements []string) {
	t.Helper()
	for _, statement := range e.texts(statements) {
		database := "postgres"
		if rest, here := strings.CutPrefix(statement, "in the database: "); here {
			statement, database = rest, e.target.Database
		}
		if e.lab.Version < 16 {
			statement = strings.TrimSuffix(statement, " GRANTED BY rotator")
		}
		conn, err := e.lab.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		hangUp(t.Context(), conn)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestPostgreSQLAsAdministratorsSetItUp(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		tried := 0
		for name, tc := range setups() {
			if l.Version < tc.from {
				continue
			}
			tried++
			t.Run(name, func(t *testing.T) {
				e := newEstate(t, l, strings.Contains(strings.Join(tc.do, " "), "atabase") || strings.Contains(strings.Join(tc.do, " "), "%[3]s"))
				for range tc.hold {
					conn, err := l.client(t.Context(), e.target.Database, loginName(e.target, "a"), e.material.String(credential.KeyPassword), "app")
					if err != nil {
						t.Fatal(err)
					}
					defer hangUp(context.Background(), conn)
				}
				e.sql(t, tc.do)
				defer mustExec(t, l, "ALTER ROLE rotator RESET ALL")
				answer, err := e.Verify(t.Context(), testRef(1, "a"), e.material)
				if answer != tc.answer {
					t.Errorf("got %s (%v), want %s", answer, err, tc.answer)
				}
				wantFault(t, err, tc.class, tc.reason, e.texts(tc.words)...)
				e.wantRepaired(t, tc)
			})
		}
		t.Logf("%d situations on PostgreSQL %d", tried, l.Version)
	})
}

// wantRepaired stages the version again if that fixes the login, or reverts the setup.
func (e *estate) wantRepaired(t *testing.T, tc setup) {
	t.Helper()
	r := testRef(1, "a")
	if tc.stage == nothingStaged {
		e.sql(t, tc.undo)
		if tc.hold == 0 {
			wantAnswer(t, e.session, r, e.material, credential.Accepted)
		}
		return
	}
	_, err := e.Stage(t.Context(), credential.Change{Ref: r, Material: e.material})
	if tc.stage != "" {
		wantFault(t, err, fault.ClassBlocked, tc.stage, e.texts(tc.stageWords)...)
		return
	}
	if e.lab.Version >= 16 && slices.Contains(tc.do, "CREATE ROLE %[2]s") {
		// The admin cannot grant the new owner, and the error names that.
		grant := fmt.Sprintf(`GRANT %q TO "rotator" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`, e.target.Owner)
		wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, grant)
		mustExec(t, e.lab, grant)
		_, err = e.Stage(t.Context(), credential.Change{Ref: r, Material: e.material})
	}
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, e.session, r, e.material, credential.Accepted)
}

// entrances are lines of pg_hba.conf for a login, and their effect on it. They do not show whether the application may
// connect from its own address: so the answer is never Rejected.
var entrances = map[string]struct {
	line   string
	class  fault.Class
	reason fault.Reason
	words  []string
}{
	"reject":                   {"host all %s all reject", fault.ClassBlocked, fault.LoginForbidden, []string{"pg_hba.conf", "28000"}},
	"no line":                  {"", fault.ClassBlocked, fault.LoginForbidden, []string{"pg_hba.conf", "28000"}},
	"without TLS only":         {"hostnossl all %s all scram-sha-256", fault.ClassBlocked, fault.LoginForbidden, []string{"hostssl"}},
	"a client certificate too": {"hostssl all %s all scram-sha-256 clientcert=verify-ca", fault.ClassBlocked, fault.LoginForbidden, []string{"clientcert", "does not support client certificates"}},
	"the certificate of the user": {"hostssl all %s all scram-sha-256 clientcert=verify-full", fault.ClassBlocked, fault.LoginForbidden,
		[]string{"clientcert", "does not support client certificates"}},
	"a certificate only":         {"hostssl all %s all cert", fault.ClassBlocked, fault.LoginForbidden, []string{"scram-sha-256", "does not support client certificates"}},
	"trust":                      {"host all %s all trust", fault.ClassPermanent, fault.AuthenticationNotEnforced, []string{"trust"}},
	"the password in clear text": {"host all %s all password", fault.ClassPermanent, fault.AuthenticationMethodInsecure, []string{"scram-sha-256"}},
	"md5, for a password that is stored as SCRAM": {"host all %s all md5", fault.ClassNone, "", nil},
}

func TestTheEffectOfPgHbaConfIsNamed(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, shared *lab) {
		t.Helper()
		// The server requests client certificates, as it does if any of its users has one.
		l := own(t, pgtest.Options{Version: shared.Version, Settings: map[string]string{"ssl_ca_file": "server.crt"}})
		e := newEstate(t, l, false)
		for name, tc := range entrances {
			for _, who := range []string{loginName(e.target, "a"), testAdmin} {
				t.Run(name+", for "+strings.TrimPrefix(who, e.target.Username), func(t *testing.T) {
					lines := []string{"host all postgres all scram-sha-256"}
					if tc.line != "" {
						lines = append(lines, fmt.Sprintf(tc.line, who))
					}
					if who != testAdmin {
						lines = append(lines, "host all rotator all scram-sha-256")
					}
					if err := l.SetHBA(t.Context(), lines...); err != nil {
						t.Fatal(err)
					}
					if who == testAdmin {
						reason := tc.reason
						if reason == fault.LoginForbidden {
							reason = fault.AdminRejected
						}
						_, err := testEngine().Check(t.Context(), encoded(e.target.Server))
						wantFault(t, err, tc.class, reason, tc.words...)
						return
					}
					answer, err := e.Verify(t.Context(), testRef(1, "a"), e.material)
					wantFault(t, err, tc.class, tc.reason, tc.words...)
					if want := map[bool]credential.Answer{true: credential.Accepted, false: unknown}[tc.class == fault.ClassNone]; answer != want {
						t.Errorf("got %s, want %s", answer, want)
					}
				})
			}
		}
	})
}

// Any user's session may use our application_name; only the admin's sessions can be ours.
func TestASessionWithOurApplicationNameBlocksNothing(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		e := newEstate(t, l, false)
		r := testRef(1, "a")
		for login, password := range map[string]string{loginName(e.target, "a"): e.material.String(credential.KeyPassword), pgtest.Superuser: l.Password} {
			conn, err := l.client(t.Context(), e.target.Database, login, password, applicationName(r))
			if err != nil {
				t.Fatal(err)
			}
			defer hangUp(context.Background(), conn)
		}
		mustExec(t, l, "ALTER ROLE "+loginName(e.target, "a")+" PASSWORD 'another-0123456789'")
		wantAnswer(t, e.session, r, e.material, credential.Rejected)
	})
}

// If one of the admin's own sessions does not end, the error reports it and who must terminate it.
func TestAnAdminSessionThatDoesNotEndIsReported(t *testing.T) {
	for age, class := range map[string]fault.Class{"": fault.ClassPending, "old": fault.ClassTransient} {
		u := unsettled{count: 1, pid: 4711, age: longestChange - 1}
		if age != "" {
			u.age = longestChange + 1
		}
		err := u.fault("app_a", "db:5432")
		if fault.Classify(err) != class {
			t.Errorf("%q: got %s (%v), want %s", age, fault.Classify(err), err, class)
		}
		if class == fault.ClassTransient && (fault.ReasonOf(err, "") != fault.LockTimeout || !strings.Contains(err.Error(), "pg_terminate_backend(4711)")) {
			t.Errorf("%v does not name the session to terminate", err)
		}
	}
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		e := newEstate(t, l, false)
		r := testRef(1, "a")
		mustExec(t, l, "CREATE ROLE "+e.target.Username+"_group CREATEROLE", "GRANT "+e.target.Username+"_group TO rotator", "ALTER ROLE rotator SET role = '"+e.target.Username+"_group'")
		defer mustExec(t, l, "ALTER ROLE rotator RESET ALL", "REVOKE "+e.target.Username+"_group FROM rotator")
		other, err := e.endpoint.connectAdmin(t.Context(), e.target.Database, applicationName(r))
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), other)
		// Even if the admin acts as a group role, its own sessions are counted and their ages are visible.
		left, err := open(t, e.target).unsettled(t.Context(), r, 0)
		if err != nil || left.count < 1 || left.age <= 0 || left.pid == 0 {
			t.Errorf("got %+v, %v; want the admin's other sessions, and since when", left, err)
		}
	})
}

func TestAServerWithoutADatabasePostgresIsServed(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, shared *lab) {
		t.Helper()
		l := own(t, pgtest.Options{Version: shared.Version})
		e := newEstate(t, l, true)
		e.Close()
		if err := l.Exec(t.Context(), "template1", "ALTER DATABASE postgres RENAME TO defaultdb"); err != nil {
			t.Fatal(err)
		}
		server := e.target.Server
		_, err := testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassBlocked, fault.DatabaseNotFound, `"postgres"`, "spec.postgresql.maintenanceDatabase")
		for name, change := range map[string]func(*testServer){
			"with the database named":                func(s *testServer) { s.MaintenanceDatabase = "defaultdb" },
			"through the database of the credential": func(s *testServer) { s.Databases = []string{"nowhere", e.target.Database} },
		} {
			t.Run(name, func(t *testing.T) {
				server := e.target.Server
				change(&server)
				if _, err := testEngine().Check(t.Context(), encoded(server)); err != nil {
					t.Error(err)
				}
				target := e.target
				target.Server, target.Username = server, fmt.Sprintf("app_%d", len(name))
				s := open(t, target)
				wantFault(t, s.Preflight(t.Context(), testRef(1, "a")), fault.ClassNone, "")
				got := mustStage(t, s, testRef(1, "a"))
				wantAnswer(t, s, testRef(1, "a"), got, credential.Accepted)
				wantAnswer(t, s, testRef(1, "a"), propose(t, target, "a"), credential.Rejected)
				if err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
					t.Error(err)
				}
				if err := s.Remove(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
					t.Error(err)
				}
			})
		}
		server.MaintenanceDatabase = "nowhere"
		_, err = testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassBlocked, fault.DatabaseNotFound, `"nowhere"`)
	})
}
