// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

// prepared is a server as the pages assume it: with the names of config/samples.
var prepared = []string{
	"CREATE ROLE orders_owner NOLOGIN", "CREATE DATABASE orders OWNER orders_owner",
	"CREATE ROLE rekey LOGIN CREATEROLE PASSWORD 'only for this test'",
	"CREATE ROLE orders_app_a LOGIN", "CREATE ROLE orders_app_b LOGIN", "GRANT orders_owner TO orders_app_a, orders_app_b",
	"COMMENT ON ROLE orders_app_a IS 'rekey 5f0/orders/orders seq=3'",
}

// alone are statements that cannot run in a transaction.
var alone = regexp.MustCompile(`^(CREATE DATABASE|DROP DATABASE|ALTER SYSTEM)`)

// A statement that fails because its object exists has been parsed.
var exists = []string{"42710", "42P04"}

var (
	comment = regexp.MustCompile(`--[^\n]*`)
	// whole matches one statement: it ends at a semicolon outside of quotes.
	whole = regexp.MustCompile(`(?:'[^']*'|[^';])+`)
)

// statements returns those of a snippet that this version supports.
func statements(s snippet, version int) []string {
	var out []string
	for _, statement := range whole.FindAllString(comment.ReplaceAllString(placed(s.text), ""), -1) {
		statement = strings.TrimSpace(statement)
		later := strings.Contains(statement, "INHERIT FALSE") && version < 16
		if statement != "" && !later {
			out = append(out, statement)
		}
	}
	return out
}

func TestEveryStatementOnAPageRunsOnItsPostgreSQLVersions(t *testing.T) {
	for _, version := range []int{15, 18} {
		t.Run(fmt.Sprint("PostgreSQL ", version), func(t *testing.T) {
			server, err := pgtest.Start(t.Context(), pgtest.Options{Version: version})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			if err := server.Exec(t.Context(), "postgres", prepared...); err != nil {
				t.Fatal(err)
			}
			count := 0
			for _, one := range snippets(t) {
				if one.language != "sql" {
					continue
				}
				conn, err := server.Connect(t.Context(), "orders")
				if err != nil {
					t.Fatal(err)
				}
				count += understood(t, conn, one, version)
				_ = conn.Close(t.Context())
			}
			if count < 50 {
				t.Errorf("found only %d statements", count)
			}
			t.Logf("%d statements", count)
		})
	}
}

// understood runs a whole snippet, then rolls back what it can.
func understood(t *testing.T, conn *pgx.Conn, s snippet, version int) int {
	t.Helper()
	run := func(statement string) error {
		_, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		return err
	}
	all := statements(s, version)
	for _, statement := range all {
		wrapped := !alone.MatchString(statement)
		if !wrapped {
			_ = run("ROLLBACK")
		} else {
			_ = run("BEGIN") // A transaction that is already open only warns.
			_ = run("SAVEPOINT one")
		}
		err := run(statement)
		var answer *pgconn.PgError
		if err != nil && (!errors.As(err, &answer) || !slices.Contains(exists, answer.Code)) {
			t.Errorf("%s: %s: %v", s.page, statement, err)
		}
		if err != nil && wrapped {
			_ = run("ROLLBACK TO one")
		}
	}
	_ = run("ROLLBACK")
	return len(all)
}
