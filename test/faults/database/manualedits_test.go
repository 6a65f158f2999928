// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// manualEdit is an edit of one of rekey's logins by a user with superuser rights.
type manualEdit struct {
	name string
	do   string // %s is the login
	// undo repairs the login if rekey does not touch it; it is empty if rekey repairs it.
	undo string
}

var manualEdits = []manualEdit{
	{"drops it", "DROP ROLE %[1]s", ""},
	{"renames it", "ALTER ROLE %[1]s RENAME TO %[1]s_old", ""},
	{"changes its password", "ALTER ROLE %[1]s PASSWORD 'a-password-of-another-user'", ""},
	{"removes its password", "ALTER ROLE %[1]s PASSWORD NULL", ""},
	{"lets it expire", "ALTER ROLE %[1]s VALID UNTIL '2020-01-01'", ""},
	{"disables it", "ALTER ROLE %[1]s NOLOGIN", ""},
	{"limits it to 0 connections", "ALTER ROLE %[1]s CONNECTION LIMIT 0", ""},
	{"makes it act as another role", "ALTER ROLE %[1]s RESET role", ""},
	{"makes it act as itself in its database", "ALTER ROLE %[1]s IN DATABASE postgres SET role = 'none'", ""},
	{"revokes its membership", "REVOKE %[2]s FROM %[1]s", ""},
	{"overwrites its marker", "COMMENT ON ROLE %[1]s IS 'the application of team blue'", ""},
	{"sets another credential's marker", "COMMENT ON ROLE %[1]s IS 'rekey 00000000-0000-4000-8000-000000000000/elsewhere/orders seq=9'", ""},
	{"sets a marker from the future", "COMMENT ON ROLE %[1]s IS 'rekey %[3]s/orders seq=7'", ""},
}

// rotationWrites is the number of API server writes in a rotation: proposed, staged, verified, committed, the user's Secret,
// published, and the status.
const rotationWrites = 7

// exists reports whether a login exists.
func (s *scene) exists(login string) bool {
	for _, r := range s.roles() {
		if r.Name == login {
			return true
		}
	}
	return false
}

// owners returns the owners that our markers name, as far as the namespace.
func (s *scene) owners() string {
	s.t.Helper()
	for _, r := range s.roles() {
		if mark := markForm.FindStringSubmatch(r.Comment); mark != nil && strings.HasSuffix(mark[1], "/"+s.Namespace+"/orders") {
			return strings.TrimSuffix(mark[1], "/orders")
		}
	}
	s.t.Fatal("no login carries our marker")
	return ""
}

// R15, R19, R20, I1, I8: a user changes a login by hand, at every step of a rotation. rekey repairs it, or reports the problem
// until a user repairs it; it never gets stuck silently.
func TestManuallyChangedLoginsAreRepairedOrReported(t *testing.T) {
	type attempt struct {
		manualEdit
		slot string
		step int
	}
	var all []attempt
	for _, m := range manualEdits {
		for _, slot := range []string{"a", "b"} {
			for step := range rotationWrites {
				all = append(all, attempt{m, slot, step + 1})
			}
		}
	}
	random := size.Random(t, 0)
	for _, version := range []int{15, 18} {
		for _, a := range sample(random, all, 10, 16) {
			t.Run(fmt.Sprintf("%d, a user %s, %s, after write %d of a rotation", version, a.name, a.slot, a.step), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, servers.Of(t, version), impatient)
				s.play(life[0])
				login, owner := s.credential.Spec.Username+"_"+a.slot, s.owners()
				writes, meddled := 0, false
				s.process.Hook(func(_ context.Context, r world.Request, do func() error) error {
					err := do()
					if r.Writes() {
						writes++
					}
					if writes >= a.step && !meddled && s.exists(login) {
						meddled = true
						s.down = true
						s.sql(fmt.Sprintf(a.do, login, s.owner, owner))
					}
					return err
				})
				life[1].begin(s)
				s.runFor(3 * time.Hour)
				if !meddled {
					t.Fatal("the login was not changed")
				}
				s.process.Hook(nil)
				published := s.secret("orders-db")
				well := s.quiet() && s.works(published) == nil && s.ledger().Previous == nil
				if !well && !s.reported(login) {
					t.Errorf("the change of %s is neither repaired nor reported:%s", login, s.describe())
				}
				if !well && a.undo != "" {
					s.sql(fmt.Sprintf(a.undo, login, s.owner))
				} else if !well && s.condition(v1alpha1.ConditionStalled) != "" {
					// As the message asks, the user who changed the marker drops the login.
					if string(published.Data["username"]) != login {
						s.sql("DROP ROLE " + login)
					} else {
						s.sql(fmt.Sprintf("COMMENT ON ROLE %s IS 'rekey %s/orders seq=%d'", login, owner, s.ledger().Current.Seq))
					}
				}
				s.until("a healthy credential", 2*recovery, func() bool { return s.quiet() && s.ledger().Previous == nil && s.works(s.secret("orders-db")) == nil })
				s.down = false
				s.checkKnown(login, login+"_old") // a login that a user renamed or marked is now theirs
				// A login with another credential's marker fences the whole credential, even if everything works: the user must
				// restore the marker or drop the login.
				for _, r := range s.roles() {
					mark := markForm.FindStringSubmatch(r.Comment)
					if r.Name != login || mark == nil || mark[1] == owner+"/orders" {
						continue
					}
					if string(s.secret("orders-db").Data["username"]) != login {
						s.sql("DROP ROLE " + login)
					} else {
						s.sql(fmt.Sprintf("COMMENT ON ROLE %s IS 'rekey %s/orders seq=%d'", login, owner, s.ledger().Current.Seq))
					}
				}
				// The next rotation is not affected.
				before := s.credential.Status.Revision
				s.Step(interval + time.Hour)
				s.until("the next rotation", 2*recovery, func() bool { return s.credential.Status.Revision > before && s.quiet() })
				life[3].begin(s)
				s.until("the deletion", recovery, s.gone)
				for _, r := range s.roles() {
					mark := markForm.FindStringSubmatch(r.Comment)
					if r.Name != login+"_old" && mark != nil && mark[1] == owner+"/orders" {
						t.Errorf("login %+v, which carries our marker, still exists", r)
					}
				}
			})
		}
	}
}
