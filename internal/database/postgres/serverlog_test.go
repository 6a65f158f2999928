// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// The server logs every statement, including those that fail, and keeps statistics of all of them.
func TestThePasswordIsInNoLogAndNoStatistics(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		mustExec(t, l, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "SELECT pg_stat_statements_reset()")
		s := open(t, l.target())
		var passwords, verifiers []string
		keep := func(m credential.Material) credential.Material {
			passwords, verifiers = append(passwords, m.String(credential.KeyPassword)), append(verifiers, m.String(credential.KeyVerifier))
			return m
		}
		first := keep(mustStage(t, s, testRef(1, "a")))
		wantAnswer(t, s, testRef(1, "a"), first, credential.Accepted)
		wantAnswer(t, s, testRef(1, "a"), keep(propose(t, s.target, "a")), credential.Rejected)
		// An ALTER ROLE that fails on the server because the admin may no longer alter logins.
		mustExec(t, l, "ALTER ROLE rotator NOCREATEROLE")
		_, err := s.Stage(t.Context(), credential.Change{Ref: testRef(3, "a"), Material: keep(propose(t, s.target, "a"))})
		mustExec(t, l, "ALTER ROLE rotator CREATEROLE")
		wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing)
		if err := s.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
			t.Fatal(err)
		}
		conn, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), conn)
		var statistics string
		if err := conn.QueryRow(t.Context(), "SELECT string_agg(query, E'\\n') FROM pg_stat_statements").Scan(&statistics); err != nil {
			t.Fatal(err)
		}
		seen := l.LogText() + statistics
		for _, password := range append(passwords, testAdminPassword) {
			if strings.Contains(seen, password) {
				t.Error("a password is in the log or the statistics")
			}
		}
		// This server does not let us suppress its log, so it contains the verifiers: the search finds what there is to
		// find.
		if !strings.Contains(l.LogText(), verifiers[0]) || !strings.Contains(l.LogText(), "STATEMENT:  ALTER ROLE") {
			t.Error("the log holds no statements: the search proves nothing")
		}
	})
}

func TestTheServersLogIsQuietWhereTheServerAllowsIt(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		grant := "SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement, pg_stat_statements.track_utility"
		mustExec(t, l, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
		mustExec(t, l, "GRANT "+grant+" TO rotator")
		defer mustExec(t, l, "REVOKE "+grant+" FROM rotator")
		s := open(t, l.target())
		got := mustStage(t, s, testRef(1, "a"))
		if strings.Contains(l.LogText(), got.String(credential.KeyVerifier)) {
			t.Error("the verifier is in the log")
		}
		conn, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		var statistics string
		if err := conn.QueryRow(t.Context(), "SELECT string_agg(query, E'\\n') FROM pg_stat_statements").Scan(&statistics); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(statistics, got.String(credential.KeyVerifier)) {
			t.Error("the verifier is in pg_stat_statements")
		}
	})
}

// Besides whole statements, a server may log samples: of statements, decided when a statement ends, or of transactions,
// decided when a transaction starts. The note is shown as long as the server may do so.
func TestSamplesForTheLogHoldNoVerifier(t *testing.T) {
	sampled := "SET ON PARAMETER log_min_duration_sample, log_transaction_sample_rate"
	whole := "SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement"
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		for _, setting := range []string{"log_transaction_sample_rate = 1", "log_min_duration_sample = 0"} {
			mustExec(t, l, "GRANT "+whole+" TO rotator", "ALTER ROLE rotator SET "+setting, "ALTER ROLE rotator SET log_statement_sample_rate = 1")
			for _, granted := range []bool{false, true} {
				if granted {
					mustExec(t, l, "GRANT "+sampled+" TO rotator")
				}
				report, err := testEngine().Check(t.Context(), encoded(l.server()))
				if noted := strings.Contains(strings.Join(report.Notes, " "), "may log SCRAM verifiers"); err != nil || noted == granted {
					t.Errorf("%s, granted %t: noted %t, %v", setting, granted, noted, err)
				}
				got := mustStage(t, open(t, l.target()), testRef(1, "a"))
				if logged := strings.Contains(l.LogText(), got.String(credential.KeyVerifier)); logged == granted {
					t.Errorf("%s, granted %t: the verifier is in the log: %t", setting, granted, logged)
				}
			}
			mustExec(t, l, "REVOKE "+whole+" FROM rotator", "REVOKE "+sampled+" FROM rotator", "ALTER ROLE rotator RESET ALL")
		}
	})
}
