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
	"github.com/rekey/rekey/test/world"
)

// meddling is what somebody with the rights of a superuser does to a login of ours.
type meddling struct {
	name string
	do   string // %s is the login
	// undo is what mends it where rekey leaves it alone; empty where rekey mends it.
	undo string
}

var meddlings = []meddling{
	{"drops it", "DROP ROLE %[1]s", ""},
	{"renames it", "ALTER ROLE %[1]s RENAME TO %[1]s_old", ""},
	{"changes its password", "ALTER ROLE %[1]s PASSWORD 'a-password-of-somebody'", ""},
	{"takes its password away", "ALTER ROLE %[1]s PASSWORD NULL", ""},
	{"lets it expire", "ALTER ROLE %[1]s VALID UNTIL '2020-01-01'", ""},
	{"closes it", "ALTER ROLE %[1]s NOLOGIN", ""},
	{"lets nobody use it", "ALTER ROLE %[1]s CONNECTION LIMIT 0", ""},
	{"has it act as somebody else", "ALTER ROLE %[1]s RESET role", ""},
	{"has it act as itself in its database", "ALTER ROLE %[1]s IN DATABASE postgres SET role = 'none'", ""},
	{"takes its membership away", "REVOKE %[2]s FROM %[1]s", ""},
	{"writes over its mark", "COMMENT ON ROLE %[1]s IS 'the application of team blue'", ""},
	{"gives it another's mark", "COMMENT ON ROLE %[1]s IS 'rekey 00000000-0000-4000-8000-000000000000/elsewhere/orders seq=9'", ""},
	{"gives it a mark from the future", "COMMENT ON ROLE %[1]s IS 'rekey %[3]s/orders seq=7'", ""},
}

// rotationWrites is how many writes of the API server a rotation takes: proposed, staged, verified, committed, published,
// published, and the status.
const rotationWrites = 7

// exists tells whether a login is there.
func (s *scene) exists(login string) bool {
	for _, r := range s.roles() {
		if r.Name == login {
			return true
		}
	}
	return false
}

// owners is whom our marks name, as far as the namespace.
func (s *scene) owners() string {
	s.t.Helper()
	for _, r := range s.roles() {
		if mark := markForm.FindStringSubmatch(r.Comment); mark != nil && strings.HasSuffix(mark[1], "/"+s.Namespace+"/orders") {
			return strings.TrimSuffix(mark[1], "/orders")
		}
	}
	s.t.Fatal("no login carries our mark")
	return ""
}

// R15, R19, R20, I1, I8: somebody changes a login by hand, at every step of a rotation. Rekey mends it, or says what is
// wrong until somebody does; it is never stuck without a word.
func TestLoginsThatAreChangedByHandAreMendedOrTold(t *testing.T) {
	type attempt struct {
		meddling
		slot string
		step int
	}
	var all []attempt
	for _, m := range meddlings {
		for _, slot := range []string{"a", "b"} {
			for step := range rotationWrites {
				all = append(all, attempt{m, slot, step + 1})
			}
		}
	}
	random := chance(t)
	for _, version := range []int{15, 18} {
		for _, a := range sample(random, all, 10, 16) {
			t.Run(fmt.Sprintf("%d, somebody %s, %s, after write %d of a rotation", version, a.name, a.slot, a.step), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, sharedServer(t, version), impatient)
				s.liveOn(life[0])
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
				s.goOn(3 * time.Hour)
				if !meddled {
					t.Fatal("nothing was done to the login")
				}
				s.process.Hook(nil)
				published := s.secret("orders-db")
				well := s.quiet() && s.works(published) == nil && s.ledger().Previous == nil
				if !well && !s.said(login) {
					t.Errorf("what was done to %s is neither mended nor told:%s", login, s.describe())
				}
				if !well && a.undo != "" {
					s.sql(fmt.Sprintf(a.undo, login, s.owner))
				} else if !well && s.condition(v1alpha1.ConditionStalled) != "" {
					// What the message asks for: the login is dropped by whoever changed its mark.
					if string(published.Data["username"]) != login {
						s.sql("DROP ROLE " + login)
					} else {
						s.sql(fmt.Sprintf("COMMENT ON ROLE %s IS 'rekey %s/orders seq=%d'", login, owner, s.ledger().Current.Seq))
					}
				}
				s.until("a healthy credential", 2*recovery, func() bool { return s.quiet() && s.ledger().Previous == nil && s.works(s.secret("orders-db")) == nil })
				s.down = false
				s.checkKnown(login, login+"_old") // what somebody renamed or marked is theirs now
				// A login with the mark of another fences the whole credential, also where everything works: whoever changed the
				// mark takes it back, or the login away.
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
				// The next rotation is none the worse for it.
				before := s.credential.Status.Revision
				s.Step(interval + time.Hour)
				s.until("the next rotation", 2*recovery, func() bool { return s.credential.Status.Revision > before && s.quiet() })
				life[3].begin(s)
				s.until("the deletion", recovery, s.gone)
				for _, r := range s.roles() {
					mark := markForm.FindStringSubmatch(r.Comment)
					if r.Name != login+"_old" && mark != nil && mark[1] == owner+"/orders" {
						t.Errorf("login %+v, which carries our mark, is left", r)
					}
				}
			})
		}
	}
}
