// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/fault"
)

func TestCheckLooksTheAllowedOwnersUp(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		mustExec(t, l, "CREATE ROLE looked_plain", "CREATE ROLE looked_strong SUPERUSER")
		defer mustExec(t, l, "DROP ROLE looked_plain", "DROP ROLE looked_strong")
		noted := func(words string, owners ...string) {
			t.Helper()
			server := l.server()
			server.AllowedOwners = owners
			report, err := testBackend().Check(t.Context(), server)
			if err != nil || !slices.ContainsFunc(report.Notes, func(note string) bool { return strings.Contains(note, words) }) {
				t.Errorf("owners %v: notes %q, want one with %q (%v)", owners, report.Notes, words, err)
			}
		}
		noted(`too powerful: "looked_strong"`, "looked_*")
		noted(`Owner "looked_absent" is allowed, and is not there: CREATE ROLE "looked_absent" NOLOGIN`, "looked_absent")
		server := l.server()
		server.AllowedOwners = []string{"looked_strong"}
		_, err := testBackend().Check(t.Context(), server)
		wantFault(t, err, fault.ClassPermanent, fault.OwnerForbidden, "looked_strong")
		if l.Version < 16 {
			return
		}
		server.AllowedOwners = []string{"looked_plain"}
		grant := `GRANT "looked_plain" TO "rotator" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`
		_, err = testBackend().Check(t.Context(), server)
		wantFault(t, err, fault.ClassPermanent, fault.PrivilegeMissing, grant)
		mustExec(t, l, grant)
		_, err = testBackend().Check(t.Context(), server)
		wantFault(t, err, fault.ClassNone, "")
	})
}
