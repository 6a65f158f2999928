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
	"github.com/rekey/rekey/internal/fault"
)

func TestCheckLooksUpTheAllowedOwners(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		mustExec(t, l, "CREATE ROLE looked_plain", "CREATE ROLE looked_strong SUPERUSER")
		defer mustExec(t, l, "DROP ROLE looked_plain", "DROP ROLE looked_strong")
		noted := func(words string, owners ...string) {
			t.Helper()
			server := l.server()
			server.AllowedOwners = owners
			report, err := testEngine().Check(t.Context(), encoded(server))
			if err != nil || !slices.ContainsFunc(report.Notes, func(note string) bool { return strings.Contains(note, words) }) {
				t.Errorf("owners %v: notes %q, want one with %q (%v)", owners, report.Notes, words, err)
			}
		}
		noted(`too powerful: "looked_strong"`, "looked_*")
		noted(`Owner "looked_absent" is allowed, but does not exist: CREATE ROLE "looked_absent" NOLOGIN`, "looked_absent")
		server := l.server()
		server.AllowedOwners = []string{"looked_strong"}
		_, err := testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassPermanent, fault.OwnerForbidden, "looked_strong")
		if l.Version < 16 {
			return
		}
		server.AllowedOwners = []string{"looked_plain"}
		grant := `GRANT "looked_plain" TO "rotator" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`
		_, err = testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, grant)
		mustExec(t, l, grant)
		_, err = testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassNone, "")
	})
}

func TestNarrowingWhatIsAllowedKeepsNoOldLoginAlive(t *testing.T) {
	l := labOf(t, 15)
	target := l.target()
	wide := open(t, target)
	first := mustStage(t, wide, testRef(1, "a"))
	wide.Close()
	target.Server.AllowedUsernames, target.Server.AllowedOwners = []string{"another"}, []string{"another"}
	narrowed := open(t, target)
	_, err := narrowed.Stage(t.Context(), credential.Change{Ref: testRef(2, "b"), Material: propose(t, target, "b")})
	wantFault(t, err, fault.ClassPermanent, fault.UsernameForbidden)
	wantAnswer(t, narrowed, testRef(1, "a"), first, credential.Accepted)
	if err := narrowed.Retire(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
		t.Error(err)
	}
	wantAnswer(t, narrowed, testRef(1, "a"), first, credential.Rejected)
	if err := narrowed.Remove(t.Context(), credential.Change{Ref: testRef(1, "a")}); err != nil {
		t.Error(err)
	}
	if mark, err := narrowed.Marker(t.Context(), testRef(1, "a")); err != nil || mark.Exists {
		t.Errorf("after Remove: %+v, %v", mark, err)
	}
}

// Every predefined role of this server: held directly, through another role, and without inheritance.
func TestNoMemberOfAPredefinedRoleIsAnOwner(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		conn, err := l.Connect(t.Context(), "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer hangUp(context.Background(), conn)
		rows, err := conn.Query(t.Context(), `SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'pg\_%' AND rolname <> 'pg_database_owner'`)
		if err != nil {
			t.Fatal(err)
		}
		predefined, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(predefined) < 10 || !slices.Contains(predefined, "pg_monitor") {
			t.Fatalf("the predefined roles: %v, %v", predefined, err)
		}
		for i, name := range predefined {
			direct, between, behind := fmt.Sprintf("pre_%d", i), fmt.Sprintf("pre_%d_between", i), fmt.Sprintf("pre_%d_behind", i)
			mustExec(t, l, "CREATE ROLE "+direct+" IN ROLE "+name, "CREATE ROLE "+between+" NOINHERIT IN ROLE "+name, "CREATE ROLE "+behind+" NOINHERIT IN ROLE "+between)
			for _, owner := range []string{direct, behind} {
				err := checkOwner(t.Context(), conn, owner)
				wantFault(t, err, fault.ClassPermanent, fault.OwnerForbidden, name)
			}
			mustExec(t, l, "DROP ROLE "+behind, "DROP ROLE "+between, "DROP ROLE "+direct)
		}
		t.Logf("%d predefined roles on PostgreSQL %d", len(predefined), l.Version)
	})
}
