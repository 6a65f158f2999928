// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

func TestObjectsOfALoginGoToTheOwner(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		s := open(t, target)
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		login := loginName(target, "a")
		conn, err := l.client(t.Context(), testDatabase, login, got.String(credential.KeyPassword), "app")
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), conn)
		if _, err := conn.Exec(t.Context(), "CREATE SCHEMA "+login); err != nil {
			t.Fatal(err)
		}
		if err := l.Exec(t.Context(), testDatabase, "GRANT CREATE ON SCHEMA "+login+" TO "+login, "CREATE TABLE "+login+".escaped (n int)", "ALTER TABLE "+login+".escaped OWNER TO "+login,
			"SET ROLE orders_owner", "CREATE TABLE "+login+".granted (n int)", "GRANT SELECT ON "+login+".granted TO "+login); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), credential.Change{Ref: r}); err != nil {
			t.Fatal(err)
		}
		if marker, err := s.Marker(t.Context(), r); err != nil || marker.Exists {
			t.Errorf("the login exists: %v, %v", marker, err)
		}
		err = l.Exec(t.Context(), testDatabase, "DO $$ BEGIN ASSERT (SELECT tableowner FROM pg_tables WHERE tablename = 'escaped' AND schemaname = '"+login+"') = 'orders_owner'; END $$",
			"DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid JOIN pg_roles a ON a.oid = m.member WHERE o.rolname = 'orders_owner' AND a.rolname = 'rotator' AND m.grantor = a.oid); END $$")
		if err != nil {
			t.Error(err)
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Errorf("the session was terminated: %v", err)
		}
	})
}

// The admin cannot revoke a privilege that a superuser granted to the login directly.
func TestAPrivilegeThatTheAdminCannotRevokeIsNamed(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		s := open(t, l.target())
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		login := loginName(s.target, "a")
		if err := l.Exec(t.Context(), testDatabase, "CREATE TABLE public."+login+" (n int)", "GRANT SELECT ON public."+login+" TO "+login); err != nil {
			t.Fatal(err)
		}
		wantFault(t, s.Remove(t.Context(), credential.Change{Ref: r}), fault.ClassPermanent, fault.PrivilegeMissing, `database "orders"`, `DROP OWNED BY "`+login+`"`)
		wantAnswer(t, s, r, got, credential.Accepted)
		if err := l.Exec(t.Context(), testDatabase, "REASSIGN OWNED BY "+login+" TO orders_owner", "DROP OWNED BY "+login); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(t.Context(), credential.Change{Ref: r}); err != nil {
			t.Error(err)
		}
	})
}

func TestObjectsInAnotherDatabaseAreNamed(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		s := open(t, target)
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		login := loginName(target, "a")
		mustExec(t, l, "CREATE TABLE "+login+" (n int)", "ALTER TABLE "+login+" OWNER TO "+login)
		wantFault(t, s.Remove(t.Context(), credential.Change{Ref: r}), fault.ClassPermanent, fault.RemoteFailed, `1 in database "postgres"`, `REASSIGN OWNED BY "`+login+`" TO "orders_owner"`, `DROP OWNED BY "`+login+`"`)
		wantAnswer(t, s, r, got, credential.Accepted)
		mustExec(t, l, "REASSIGN OWNED BY "+login+" TO orders_owner", "DROP OWNED BY "+login)
		if err := s.Remove(t.Context(), credential.Change{Ref: r}); err != nil {
			t.Error(err)
		}
	})
}

// Both logins act as the owner: each may change and drop what the other creates, and the owner's privileges suffice.
func TestBothLoginsAreOneOwner(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		target := l.target()
		s := open(t, target)
		table := target.Username
		for i, slot := range []string{"a", "b"} {
			got := mustStage(t, s, testRef(int64(i+1), slot))
			conn, err := l.client(t.Context(), testDatabase, got.String(credential.KeyUsername), got.String(credential.KeyPassword), "app")
			if err != nil {
				t.Fatal(err)
			}
			statement := "CREATE SCHEMA " + table + " CREATE TABLE made (n int)"
			if slot == "b" {
				statement = "ALTER TABLE " + table + ".made ADD COLUMN m int; DROP TABLE " + table + ".made; DROP SCHEMA " + table
			}
			if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Error(err)
			}
			hangUp(context.Background(), conn)
		}
	})
}
