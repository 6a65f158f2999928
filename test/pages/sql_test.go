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

// prepared is a server as the pages assume it: the names of config/samples.
var prepared = []string{
	"CREATE ROLE orders_owner NOLOGIN", "CREATE DATABASE orders OWNER orders_owner",
	"CREATE ROLE rekey LOGIN CREATEROLE PASSWORD 'only for this test'",
	"CREATE ROLE orders_app_a LOGIN", "CREATE ROLE orders_app_b LOGIN", "GRANT orders_owner TO orders_app_a, orders_app_b",
	"COMMENT ON ROLE orders_app_a IS 'rekey 5f0/orders/orders seq=3'",
}

// alone are statements that no transaction takes.
var alone = regexp.MustCompile(`^(CREATE DATABASE|DROP DATABASE|ALTER SYSTEM)`)

// A statement that meets what it would make has been understood.
var exists = []string{"42710", "42P04"}

var (
	comment = regexp.MustCompile(`--[^\n]*`)
	// whole is one statement: it ends at a semicolon outside of quotes.
	whole = regexp.MustCompile(`(?:'[^']*'|[^';])+`)
)

// statements are those of a snippet that this version knows.
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

func TestEveryStatementOnAPageIsUnderstoodByThePostgreSQLVersionsThatItIsFor(t *testing.T) {
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
				t.Errorf("only %d statements were found", count)
			}
			t.Logf("%d statements", count)
		})
	}
}

// understood runs a snippet from its beginning to its end, then takes back what can be taken back.
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
			_ = run("BEGIN") // one that is open already only warns
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
