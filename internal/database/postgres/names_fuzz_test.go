// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

// quotingServers starts one server of each version per process, each with a connection like the admin's.
var quotingServers = sync.OnceValues(func() (map[int]*lab, error) {
	out := map[int]*lab{}
	for _, version := range pgtest.Versions {
		l, err := labs[version]()
		if err != nil {
			return nil, err
		}
		out[version] = l
	}
	return out, nil
})

// FuzzQuoting has real servers read quoted strings and names: each must come back unchanged, without any other effect.
func FuzzQuoting(f *testing.F) {
	for _, seed := range [][2]string{
		{"orders_app", "plain"}, {`a"b`, "it's"}, {`"; DROP ROLE postgres; --`, `'; DROP ROLE postgres; --`}, {`a\`, `\'; SELECT 1; --`}, {"U&\"x", `E'\\x27'`},
		{"\u00e4\u20ac", "\u2028\u0000"}, {strings.Repeat("x", 70), "$$x$$"}, {"a\xff", "a\xff'"}, {"A.b", "rekey c/n/o seq=7"}, {"\r\n\t ", "\r\n\t "},
	} {
		f.Add(seed[0], seed[1], int64(7))
	}
	f.Fuzz(func(t *testing.T, name, text string, seq int64) {
		servers, err := quotingServers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range servers {
			conn := quotingConn(t, l)
			tryLiteral(t, conn, text)
			if usable(name) && utf8.ValidString(name) && !strings.HasPrefix(name, "pg_") && name != "none" && name != "public" {
				tryRole(t, conn, name, text, seq)
			}
		}
		tryMark(t, credential.Ref{Cluster: "c0ffee", Namespace: name, Name: text, Seq: seq})
	})
}

var kept sync.Map

func quotingConn(t *testing.T, l *lab) *pgx.Conn {
	t.Helper()
	if conn, ok := kept.Load(l); ok && !conn.(*pgx.Conn).IsClosed() {
		return conn.(*pgx.Conn)
	}
	opened, err := New(Options{}).Open(t.Context(), database.Server{Host: l.Host, Port: l.Port, TLS: database.TLSRequire, AllowLoopback: true,
		Admin: database.Admin{Username: pgtest.Superuser, Password: credential.SensitiveString(l.Password)}}, database.Target{Username: "app", Strategy: database.AlternatingUsers})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := opened.(*session).endpoint.connectAdmin(t.Context(), defaultMaintenance, "quoting")
	if err != nil {
		t.Fatal(err)
	}
	kept.Store(l, conn)
	return conn
}

// tryLiteral reads a string back. An invalid string is refused, never changed.
func tryLiteral(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	if strings.ContainsRune(text, 0) {
		return // terminates a message of the protocol; no name or marker contains one
	}
	var got string
	err := conn.QueryRow(t.Context(), "SELECT "+literal(text)+"::pg_catalog.text", pgx.QueryExecModeSimpleProtocol).Scan(&got)
	switch {
	case !utf8.ValidString(text):
		if answer, ok := errors.AsType[*pgconn.PgError](err); !ok || answer.Code != "22021" {
			t.Errorf("%q, which is invalid, was accepted as %q: %v", text, got, err)
		}
	case err != nil || got != text:
		t.Errorf("%q was read back as %q: %v", text, got, err)
	}
}

// tryRole creates a role with the name and the marker, and checks that exactly that happened.
func tryRole(t *testing.T, conn *pgx.Conn, name, text string, seq int64) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	var before, after int
	count := "SELECT pg_catalog.count(*) FROM pg_catalog.pg_roles"
	if err := tx.QueryRow(t.Context(), count).Scan(&before); err != nil {
		t.Fatal(err)
	}
	if found, err := readRole(t.Context(), tx, name); err != nil || found.exists {
		return // a role of the server itself
	}
	comment := markerText(credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: max(seq, 1)%1e15 + 1})
	if text != "" && utf8.ValidString(text) && !strings.ContainsRune(text, 0) {
		comment = text
	}
	if err := exec(t.Context(), tx, "CREATE ROLE "+ident(name), "COMMENT ON ROLE "+ident(name)+" IS "+literal(comment), "ALTER ROLE "+ident(name)+" SET role = "+literal(name)); err != nil {
		t.Errorf("creating the role %q: %v", name, err)
		return
	}
	var got string
	err = tx.QueryRow(t.Context(), "SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles WHERE rolname = $1", name).Scan(&got)
	if err != nil || got != comment {
		t.Errorf("the comment %q on role %q was read back as %q: %v", comment, name, got, err)
	}
	if err := tx.QueryRow(t.Context(), count).Scan(&after); err != nil || after != before+1 {
		t.Errorf("creating the role %q created %d roles: %v", name, after-before, err)
	}
}

// tryMark checks that only our own markers parse as markers.
func tryMark(t *testing.T, r credential.Ref) {
	t.Helper()
	owner, got, _ := parseMarker(markerText(r))
	if owner != "" && (owner != r.Owner() || got != r.Seq) {
		t.Errorf("%q was read as %q, %d", markerText(r), owner, got)
	}
	if owner == "" && len(markerText(r)) <= maxMark && r.Seq > 0 && r.Seq < 1e17 && !strings.ContainsAny(r.Owner(), " \t\n\v\f\r") && r.Owner() != "" {
		t.Errorf("%q was not recognized", markerText(r))
	}
}

// FuzzWhatServersSay parses a server's messages as they arrive: in pieces of any size, complete or not.
func FuzzWhatServersSay(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x0a"), 3)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		watch := &authWatch{}
		reader := &authReader{source: strings.NewReader(string(data)), watch: watch}
		buffer := make([]byte, max(1, min(size, 100)))
		read := 0
		for {
			n, err := reader.Read(buffer)
			read += n
			if err != nil {
				break
			}
		}
		if read != len(data) {
			t.Errorf("%d of %d bytes came through", read, len(data))
		}
		_, _, _ = watch.insecure(), watch.withoutPassword(), watch.saw(authSASLFinal)
		if code := sqlstate(string(data)); len(code) != 5 {
			t.Errorf("an SQLSTATE of %d letters", len(code))
		}
	})
}
