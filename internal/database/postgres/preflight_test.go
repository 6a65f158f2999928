// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
)

func TestTLSModesMeanWhatLibpqMeans(t *testing.T) {
	t.Parallel()
	l := own(t, pgtest.Options{})
	expired := own(t, pgtest.Options{NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), Authority: l.Authority})
	plain := own(t, pgtest.Options{Plain: true})
	other, err := pgtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	ca, wrong := l.Authority.PEM, other.PEM
	cases := map[string]struct {
		lab   *lab
		mode  database.TLSMode
		host  string
		ca    []byte
		class fault.Class
		want  fault.Reason
	}{
		"full, all right":                      {l, database.TLSVerifyFull, "localhost", ca, fault.ClassNone, ""},
		"full, by address":                     {l, database.TLSVerifyFull, "127.0.0.1", ca, fault.ClassNone, ""},
		"full, another name":                   {l, database.TLSVerifyFull, "db.example.com", ca, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"full, another CA":                     {l, database.TLSVerifyFull, "localhost", wrong, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"full, expired":                        {expired, database.TLSVerifyFull, "localhost", ca, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"full, no CA":                          {l, database.TLSVerifyFull, "localhost", nil, fault.ClassBlocked, fault.SecretInvalid},
		"full, a CA that is not a certificate": {l, database.TLSVerifyFull, "localhost", []byte("no PEM"), fault.ClassBlocked, fault.SecretInvalid},
		"full, a private key as CA":            {l, database.TLSVerifyFull, "localhost", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), fault.ClassBlocked, fault.SecretInvalid},
		"CA, another name":                     {l, database.TLSVerifyCA, "db.example.com", ca, fault.ClassNone, ""},
		"CA, another CA":                       {l, database.TLSVerifyCA, "localhost", wrong, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"CA, expired":                          {expired, database.TLSVerifyCA, "localhost", ca, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"CA, no CA":                            {l, database.TLSVerifyCA, "localhost", nil, fault.ClassBlocked, fault.SecretInvalid},
		"require, no CA":                       {l, database.TLSRequire, "db.example.com", nil, fault.ClassNone, ""},
		"require, no CA, expired":              {expired, database.TLSRequire, "localhost", nil, fault.ClassNone, ""},
		"require with a CA verifies the chain, as libpq": {l, database.TLSRequire, "localhost", wrong, fault.ClassPermanent, fault.ServerCertificateInvalid},
		"require, but the server has no TLS":             {plain, database.TLSRequire, "localhost", nil, fault.ClassPermanent, fault.TLSNotOffered},
		"full, but the server has no TLS":                {plain, database.TLSVerifyFull, "localhost", ca, fault.ClassPermanent, fault.TLSNotOffered},
		"disable":                                        {plain, database.TLSDisable, "localhost", nil, fault.ClassNone, ""},
		"disable, though the server has TLS":             {l, database.TLSDisable, "localhost", nil, fault.ClassNone, ""},
		"an unknown mode":                                {l, "Prefer", "localhost", ca, fault.ClassPermanent, fault.ServerUnsupported},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			server := tc.lab.server()
			server.Host, server.TLS, server.CA = tc.host, tc.mode, tc.ca
			_, err := testEngine().Check(t.Context(), encoded(server))
			if fault.Classify(err) != tc.class || fault.ReasonOf(err, "") != tc.want {
				t.Errorf("got %s %s (%v), want %s %s", fault.Classify(err), fault.ReasonOf(err, ""), err, tc.class, tc.want)
			}
		})
	}
}

func TestTheEnvironmentIsIgnored(t *testing.T) {
	l := labOf(t, 15)
	for name, value := range map[string]string{
		"PGHOST": "elsewhere.invalid", "PGPORT": "1", "PGUSER": "postgres", "PGPASSWORD": "other", "PGDATABASE": "template1", "PGSSLMODE": "disable", "PGREQUIREAUTH": "password",
		"PGCHANNELBINDING": "disable", "PGOPTIONS": "-c search_path=public", "PGTARGETSESSIONATTRS": "standby", "PGAPPNAME": "other", "PGTZ": "Mars/Olympus",
		"PGCONNECT_TIMEOUT": "1", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2", "PGSSLROOTCERT": "/nowhere", "PGSSLCERT": "/nowhere", "PGSSLKEY": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	s := open(t, l.target())
	got := mustStage(t, s, testRef(1, "a"))
	wantAnswer(t, s, testRef(1, "a"), got, credential.Accepted)
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		run := func(statements ...string) func(*testing.T) {
			return func(t *testing.T) { t.Helper(); mustExec(t, l, statements...) }
		}
		nothing := func(*testing.T) {}
		cases := map[string]struct {
			spoil, repair func(*testing.T)
			change        func(*testServer)
			class         fault.Class
			want          fault.Reason
			words         string
		}{
			"wrong password": {nothing, nothing, func(s *testServer) { s.Admin.Password = credential.SensitiveString("wrong-0123456789") },
				fault.ClassBlocked, fault.AdminRejected, "adminSecretRef"},
			"no such admin":        {nothing, nothing, func(s *testServer) { s.Admin.Username = "nobody_here" }, fault.ClassBlocked, fault.AdminRejected, "28P01"},
			"admin may not log in": {run("ALTER ROLE rotator NOLOGIN"), run("ALTER ROLE rotator LOGIN"), nil, fault.ClassBlocked, fault.AdminRejected, `ALTER ROLE "rotator" LOGIN`},
			"no line in pg_hba.conf": {func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context(), "host all postgres all scram-sha-256"); err != nil {
					t.Fatal(err)
				}
			}, func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context()); err != nil {
					t.Fatal(err)
				}
			}, nil, fault.ClassBlocked, fault.AdminRejected, "pg_hba.conf"},
			"a trusted admin": {func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context(), trustAll); err != nil {
					t.Fatal(err)
				}
			}, func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context()); err != nil {
					t.Fatal(err)
				}
			}, nil, fault.ClassPermanent, fault.AuthenticationNotEnforced, "trust"},
			"password in clear text": {func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context(), "host all postgres all scram-sha-256", "host all "+allUsers+" all password"); err != nil {
					t.Fatal(err)
				}
			}, func(t *testing.T) {
				t.Helper()
				if err := l.SetHBA(t.Context()); err != nil {
					t.Fatal(err)
				}
			}, nil, fault.ClassPermanent, fault.AuthenticationMethodInsecure, "scram-sha-256"},
			"no CREATEROLE": {run("ALTER ROLE rotator NOCREATEROLE"), run("ALTER ROLE rotator CREATEROLE"), nil, fault.ClassPermanent, fault.PrivilegeMissing, `ALTER ROLE "rotator" CREATEROLE`},
			"no CONNECT": {run("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC"), run("GRANT CONNECT ON DATABASE postgres TO PUBLIC"), nil,
				fault.ClassPermanent, fault.PrivilegeMissing, `GRANT CONNECT ON DATABASE "postgres" TO "rotator"`},
			"set to read only": {run("ALTER ROLE rotator SET default_transaction_read_only = on"), run("ALTER ROLE rotator RESET default_transaction_read_only"), nil,
				fault.ClassBlocked, fault.ServerReadOnly, "primary"},
			"no connection left for the admin": {run("ALTER ROLE rotator CONNECTION LIMIT 0"), run("ALTER ROLE rotator CONNECTION LIMIT -1"), nil,
				fault.ClassTransient, fault.ServerNotReady, "53300"},
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				tc.spoil(t)
				defer tc.repair(t)
				server := l.server()
				if tc.change != nil {
					tc.change(&server)
				}
				_, err := testEngine().Check(t.Context(), encoded(server))
				wantFault(t, err, tc.class, tc.want, tc.words)
			})
		}
		_, err := testEngine().Check(t.Context(), encoded(l.server()))
		wantFault(t, err, fault.ClassNone, "")
	})
}

func TestCheckReportsVersionAndNotes(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		report, err := testEngine().Check(t.Context(), encoded(l.server()))
		if err != nil {
			t.Fatal(err)
		}
		major, _, _ := strings.Cut(report.Version, ".")
		want := map[int]string{15: "15", 18: "18"}[l.Version]
		if major != want {
			t.Errorf("version %q, want %s", report.Version, want)
		}
		notes := []string{
			`Sessions are shown without their address and start time: GRANT pg_read_all_stats TO "rotator".`,
			`The server may log SCRAM verifiers: GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement, log_min_duration_sample, log_transaction_sample_rate TO "rotator".`,
		}
		if l.Version < 16 {
			notes = append([]string{"Before PostgreSQL 16, CREATEROLE is nearly a superuser: it may change the password of every role that is not a superuser."}, notes...)
		}
		if diff := cmp.Diff(notes, report.Notes); diff != "" {
			t.Error(diff)
		}
		// The statements in the notes fix what the notes report.
		mustExec(t, l, "GRANT pg_read_all_stats TO rotator", "GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement TO rotator")
		defer mustExec(t, l, "REVOKE pg_read_all_stats FROM rotator", "REVOKE SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement FROM rotator")
		report, err = testEngine().Check(t.Context(), encoded(l.server()))
		if err != nil || len(report.Notes) > 1 {
			t.Errorf("after the GRANTs: %v, %v", report.Notes, err)
		}
		server := l.server()
		server.TLS, server.CA = database.TLSRequire, nil
		server.Admin = database.Admin{Username: pgtest.Superuser, Password: credential.SensitiveString(l.Password)}
		report, err = testEngine().Check(t.Context(), encoded(server))
		want2 := []string{"The admin is a superuser: a role with CREATEROLE is enough.", "The server's certificate is not verified: tls.mode is Require."}
		if diff := cmp.Diff(want2, report.Notes); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

func TestAStandbyIsRefused(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		primary := l.server()
		standby, err := l.Standby(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(standby.Stop)
		primary.Port = standby.Port
		_, err = testEngine().Check(t.Context(), encoded(primary))
		wantFault(t, err, fault.ClassBlocked, fault.ServerReadOnly, "standby", "primary")
		target := l.target()
		s := open(t, target)
		got := mustStage(t, s, testRef(1, "a"))
		target.Server.Port = standby.Port
		on := open(t, target)
		wantFault(t, on.Preflight(t.Context(), testRef(1, "a")), fault.ClassBlocked, fault.ServerReadOnly)
		_, err = on.Stage(t.Context(), credential.Change{Ref: testRef(2, "b"), Material: propose(t, target, "b")})
		wantFault(t, err, fault.ClassBlocked, fault.ServerReadOnly, "primary")
		// A login that was staged on the primary arrives there.
		until(t, "the login on the standby", func() bool {
			answer, _ := on.Verify(t.Context(), testRef(1, "a"), got)
			return answer == credential.Accepted
		})
	})
}

func TestPreflightNamesWhatIsMissing(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		cases := map[string]struct {
			spoil  []string
			change func(*testTarget)
			class  fault.Class
			want   fault.Reason
			words  string
		}{
			"no such database":                 {nil, func(t *testTarget) { t.Database = "nowhere" }, fault.ClassBlocked, fault.DatabaseNotFound, `CREATE DATABASE "nowhere"`},
			"template0":                        {nil, func(t *testTarget) { t.Database = "template0" }, fault.ClassBlocked, fault.LoginForbidden, "ALLOW_CONNECTIONS"},
			"no such owner":                    {nil, owner("nobody_owner"), fault.ClassBlocked, fault.OwnerNotFound, `CREATE ROLE "nobody_owner"`},
			"a closed database":                {[]string{"CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC"}, func(t *testTarget) { t.Database = "closed" }, fault.ClassBlocked, fault.LoginForbidden, `GRANT CONNECT ON DATABASE "closed" TO "orders_owner"`},
			"a superuser":                      {[]string{"CREATE ROLE o_super SUPERUSER"}, owner("o_super"), fault.ClassPermanent, fault.OwnerForbidden, "is a superuser"},
			"CREATEROLE":                       {[]string{"CREATE ROLE o_create CREATEROLE"}, owner("o_create"), fault.ClassPermanent, fault.OwnerForbidden, "CREATEROLE"},
			"REPLICATION":                      {[]string{"CREATE ROLE o_repl REPLICATION"}, owner("o_repl"), fault.ClassPermanent, fault.OwnerForbidden, "REPLICATION"},
			"BYPASSRLS":                        {[]string{"CREATE ROLE o_rls BYPASSRLS"}, owner("o_rls"), fault.ClassPermanent, fault.OwnerForbidden, "BYPASSRLS"},
			"a shell":                          {[]string{"CREATE ROLE o_shell IN ROLE pg_execute_server_program"}, owner("o_shell"), fault.ClassPermanent, fault.OwnerForbidden, "pg_execute_server_program"},
			"a shell, by steps":                {[]string{"CREATE ROLE o_one NOINHERIT IN ROLE pg_write_server_files", "CREATE ROLE o_two NOINHERIT IN ROLE o_one", "CREATE ROLE o_three IN ROLE o_two"}, owner("o_three"), fault.ClassPermanent, fault.OwnerForbidden, "pg_write_server_files"},
			"a superuser, by steps":            {[]string{"CREATE ROLE o_top SUPERUSER", "CREATE ROLE o_bottom IN ROLE o_top"}, owner("o_bottom"), fault.ClassPermanent, fault.OwnerForbidden, "o_top"},
			"the admin's group":                {[]string{"CREATE ROLE o_admin", "GRANT rotator TO o_admin"}, owner("o_admin"), fault.ClassPermanent, fault.OwnerForbidden, "rotator"},
			"an owner that may log in is fine": {[]string{"CREATE ROLE o_login LOGIN"}, owner("o_login"), fault.ClassNone, "", ""},
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				mustExec(t, l, tc.spoil...)
				target := l.target()
				target.Server.AllowedOwners = []string{testOwner, "o_*", "nobody_owner"}
				tc.change(&target)
				if l.Version >= 16 && tc.class == fault.ClassNone {
					mustExec(t, l, "GRANT "+target.Owner+" TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
				}
				s := open(t, target)
				err := s.Preflight(t.Context(), testRef(1, "a"))
				wantFault(t, err, tc.class, tc.want, tc.words)
				if tc.want == fault.OwnerForbidden || tc.want == fault.OwnerNotFound {
					_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(1, "a"), Material: propose(t, target, "a")})
					wantFault(t, err, tc.class, tc.want, tc.words) // Stage refuses it too
					if got, err := s.Marker(t.Context(), testRef(1, "a")); got.Exists || err != nil {
						t.Errorf("a login was created: %v, %v", got, err)
					}
				}
			})
		}
	})
}

func owner(name string) func(*testTarget) {
	return func(t *testTarget) { t.Owner = name }
}

func TestAMissingAdminOptionNamesTheGrantThatFixesIt(t *testing.T) {
	l := labOf(t, 18)
	mustExec(t, l, "CREATE ROLE ungranted")
	target := l.target()
	target.Owner, target.Server.AllowedOwners = "ungranted", []string{"*"}
	s := open(t, target)
	grant := `GRANT "ungranted" TO "rotator" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`
	wantFault(t, s.Preflight(t.Context(), testRef(1, "a")), fault.ClassPermanent, fault.PrivilegeMissing, grant)
	_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(1, "a"), Material: propose(t, target, "a")})
	wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, grant)
	mustExec(t, l, grant)
	wantFault(t, s.Preflight(t.Context(), testRef(1, "a")), fault.ClassNone, "")
	got := mustStage(t, s, testRef(1, "a"))
	wantAnswer(t, s, testRef(1, "a"), got, credential.Accepted)

	// Another admin takes over: it lacks the admin option on the login that the first one created.
	mustExec(t, l, "CREATE ROLE second LOGIN CREATEROLE PASSWORD 'second-0123456789'", `GRANT "ungranted" TO second WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`)
	target.Server.Admin = database.Admin{Username: "second", Password: credential.SensitiveString("second-0123456789")}
	on := open(t, target)
	grant = `GRANT "` + target.Username + `_a" TO "second" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`
	wantFault(t, on.Preflight(t.Context(), testRef(1, "a")), fault.ClassPermanent, fault.PrivilegeMissing, grant)
	_, err = on.Stage(t.Context(), credential.Change{Ref: testRef(2, "a"), Material: propose(t, target, "a")})
	wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, grant)
	wantFault(t, on.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}), fault.ClassPermanent, fault.PrivilegeMissing, grant)
	wantFault(t, on.Remove(t.Context(), credential.Change{Ref: testRef(1, "a")}), fault.ClassPermanent, fault.PrivilegeMissing, grant)
	wantAnswer(t, s, testRef(1, "a"), got, credential.Accepted)
	mustExec(t, l, grant)
	mustStage(t, on, testRef(2, "a"))
	if err := on.Remove(t.Context(), credential.Change{Ref: testRef(2, "a")}); err != nil {
		t.Error(err)
	}
}

func TestAMissingCreateRoleIsNamedByStageToo(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		mustExec(t, l, "ALTER ROLE rotator NOCREATEROLE")
		defer mustExec(t, l, "ALTER ROLE rotator CREATEROLE")
		s := open(t, l.target())
		_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(1, "a"), Material: propose(t, s.target, "a")})
		wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, `ALTER ROLE "rotator" CREATEROLE`)
	})
}
