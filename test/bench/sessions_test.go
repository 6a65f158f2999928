// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// session is one connection to PostgreSQL, according to its log.
type session struct {
	user, database string
	refused        bool
	statements     []statement
}

// statement of a session. parameters is nil if it was sent in one piece.
type statement struct {
	sql        string
	parameters [][]byte
}

// Lines of the log start with the prefix that pgtest sets: time, process, application, user and database.
var (
	logLine  = regexp.MustCompile(`^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[(\d+)\] .*?(\S*)@(\S*) (LOG|DETAIL|FATAL|ERROR):  `)
	executed = regexp.MustCompile(`^execute [^:]+: `)
	parTag   = regexp.MustCompile(`^[Pp]arameters: `)
)

// sessionsOf reads the sessions from a part of the log, in the order of their logins.
func sessionsOf(t *testing.T, text string) []session {
	t.Helper()
	open, order := map[string]*session{}, []*session{}
	for _, entry := range entries(text) {
		parts := logLine.FindStringSubmatch(entry)
		if parts == nil {
			continue
		}
		process, user, database, level, said := parts[1], parts[2], parts[3], parts[4], entry[len(parts[0]):]
		if user == "" || user == "[unknown]" || user == "postgres" {
			continue
		}
		at := open[process]
		if at == nil {
			at = &session{user: user, database: database}
			open[process], order = at, append(order, at)
		}
		switch {
		case strings.HasPrefix(said, "disconnection: "):
			delete(open, process)
		case level == "FATAL":
			at.refused = true
			delete(open, process)
		case strings.HasPrefix(said, "statement: "):
			at.statements = append(at.statements, statement{sql: strings.TrimPrefix(said, "statement: ")})
		case executed.MatchString(said):
			at.statements = append(at.statements, statement{sql: executed.ReplaceAllString(said, ""), parameters: [][]byte{}})
		case level == "DETAIL" && parTag.MatchString(said) && len(at.statements) > 0:
			at.statements[len(at.statements)-1].parameters = parameters(parTag.ReplaceAllString(said, ""))
		}
	}
	out := make([]session, 0, len(order))
	for _, s := range order {
		out = append(out, *s)
	}
	return out
}

// entries joins the lines of each entry: all but the first start with a tab.
func entries(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "\t"); ok && len(out) > 0 {
			out[len(out)-1] += "\n" + rest
			continue
		}
		out = append(out, line)
	}
	return out
}

// parameters reads "$1 = 'text', $2 = NULL". A quote within a text is doubled.
func parameters(text string) [][]byte {
	out := [][]byte{}
	for text != "" {
		_, value, found := strings.Cut(text, " = ")
		if !found {
			return out
		}
		if rest, null := strings.CutPrefix(value, "NULL"); null {
			out, text = append(out, nil), strings.TrimPrefix(rest, ", ")
			continue
		}
		var b strings.Builder
		i := 1
		for ; i < len(value); i++ {
			if value[i] == '\'' {
				if i+1 >= len(value) || value[i+1] != '\'' {
					break
				}
				i++
			}
			b.WriteByte(value[i])
		}
		out, text = append(out, []byte(b.String())), strings.TrimPrefix(value[min(i+1, len(value)):], ", ")
	}
	return out
}

func statementsIn(sessions []session) int {
	sum := 0
	for _, s := range sessions {
		sum += len(s.statements)
	}
	return sum
}

func TestSessionsAreReadFromTheServersLog(t *testing.T) {
	const text = `2026-11-22 13:00:00.000 UTC [7] [unknown] [unknown]@[unknown] LOG:  connection received: host=127.0.0.1 port=1
2026-11-22 13:00:00.001 UTC [7] rekey data/x fleet_admin@postgres LOG:  connection authorized: user=fleet_admin database=postgres
2026-11-22 13:00:00.002 UTC [7] rekey data/x fleet_admin@postgres LOG:  statement: begin isolation level read committed
2026-11-22 13:00:00.003 UTC [8] v app_1_b@postgres FATAL:  password authentication failed for user "app_1_b"
2026-11-22 13:00:00.004 UTC [7] rekey data/x fleet_admin@postgres LOG:  execute <unnamed>: SELECT a
	FROM b WHERE c = $1 AND d = $2
2026-11-22 13:00:00.004 UTC [7] rekey data/x fleet_admin@postgres DETAIL:  Parameters: $1 = 'it''s', $2 = NULL
2026-11-22 13:00:00.005 UTC [9] pgtest postgres@postgres LOG:  statement: SELECT 1
2026-11-22 13:00:00.006 UTC [7] rekey data/x fleet_admin@postgres LOG:  disconnection: session time: 0:00:00.004
2026-11-22 13:00:00.007 UTC [7] rekey data/y fleet_admin@postgres LOG:  statement: commit
`
	want := []session{
		{user: "fleet_admin", database: "postgres", statements: []statement{
			{sql: "begin isolation level read committed"}, {sql: "SELECT a\nFROM b WHERE c = $1 AND d = $2", parameters: [][]byte{[]byte("it's"), nil}}}},
		{user: "app_1_b", database: "postgres", refused: true},
		{user: "fleet_admin", database: "postgres", statements: []statement{{sql: "commit"}}},
	}
	if diff := cmp.Diff(want, sessionsOf(t, text), cmp.AllowUnexported(session{}, statement{})); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
}
