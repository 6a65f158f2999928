// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// safe keeps every acknowledged commit, even across a crash.
var safe = map[string]string{"synchronous_commit": "on"}

// startServer starts the server again.
func (s *scene) startServer() {
	s.t.Helper()
	if err := s.server.Restart(s.Ctx); err != nil {
		s.t.Fatal(err)
	}
	s.down = false
}

// R2, R27, I1, I2, I3, I8: the server stops, or crashes and recovers, at every moment of a rotation: before it sees a request,
// and after it has executed it but before the response.
func TestARotationSurvivesAServerStopOrCrashAtEveryMoment(t *testing.T) {
	moments := momentsOf(t, 15)[1]
	server := pgtest.StartFor(t, pgtest.Options{Settings: safe})
	ends := map[string]func(){"stops": server.Halt, "crashes": server.Crash}
	type attempt struct {
		n         int
		how       string
		wireFault wireFault
	}
	var all []attempt
	for n := range moments {
		for _, how := range []string{"stops", "crashes"} {
			for _, d := range []wireFault{pass, cutAfter} {
				all = append(all, attempt{n + 1, how, d})
			}
		}
	}
	for _, a := range sample(size.Random(t, 0), all, 8, 16) {
		when := map[wireFault]string{pass: "before", cutAfter: "after"}[a.wireFault]
		t.Run(fmt.Sprintf("it %s %s moment %d", a.how, when, a.n), func(t *testing.T) {
			s := newScene(t, server, impatient)
			s.play(life[0])
			end := func() { s.down = true; ends[a.how]() }
			done, last := false, 0
			s.proxy.set(func(m moment) wireFault {
				last = m.n
				if m.n != a.n || done {
					return pass
				}
				done = true
				if a.wireFault == pass {
					end()
				}
				return a.wireFault
			})
			s.proxy.takeMoments()
			s.after = func() {
				if done && a.wireFault == cutAfter {
					end()
					_, err := s.process.Reconcile(s.credential) // while it is down
					if err != nil {
						t.Error(err)
					}
				}
				if done {
					s.after = nil
					s.startServer()
				}
			}
			life[1].begin(s)
			s.reconcileDown(func() bool { return done })
			s.until("the rotation", recovery, func() bool { return life[1].done(s) })
			switch {
			case !done && last >= a.n:
				t.Fatal("the server was not stopped")
			case !done:
				t.Logf("the rotation had %d moments, fewer than the one that was counted: the server was not stopped", last)
			}
			s.checkAfter(life[1])
			s.play(life[2])
			s.play(life[3])
		})
	}
}

// reconcileDown runs the first reconcile, during which the server goes away: until it is back, the published login cannot be
// checked.
func (s *scene) reconcileDown(harmed func() bool) {
	s.t.Helper()
	s.down = true
	if _, err := s.process.Reconcile(s.credential); err != nil {
		s.t.Fatal(err)
	}
	if !harmed() {
		s.down = false
	}
	s.after()
	s.down = false
}

// losses are the ways in which a server loses acknowledged changes.
type loss struct {
	name string
	// before is called while everything is intact; the function that it returns makes the server lose everything since then.
	before func(*scene) (forget func())
}

var losses = []loss{
	{"restored from a copy", func(s *scene) func() {
		s.t.Helper()
		s.server.Halt()
		kept, err := s.server.Copy()
		if err != nil {
			s.t.Fatal(err)
		}
		s.startServer()
		return func() {
			s.server.Halt()
			if err := s.server.Restore(kept); err != nil {
				s.t.Fatal(err)
			}
			s.startServer()
		}
	}},
	{"replaced by a standby that lagged behind", func(s *scene) func() {
		s.t.Helper()
		standby := s.standby()
		// It no longer receives from its primary.
		if err := standby.Exec(s.Ctx, "postgres", "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"); err != nil {
			s.t.Fatal(err)
		}
		s.eventually("the standby to lose its primary", func() bool {
			return standby.Exec(s.Ctx, "postgres", "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_wal_receiver); END $$") == nil
		})
		return func() { s.promote(standby) }
	}},
}

func (s *scene) eventually(what string, holds func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); !holds(); <-tick.C {
		if time.Since(started) > 30*time.Second {
			s.t.Fatalf("waiting for %s: it does not happen", what)
		}
	}
}

func (s *scene) standby() *pgtest.Server {
	s.t.Helper()
	standby, err := s.server.Standby(context.WithoutCancel(s.Ctx))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(standby.Stop)
	return standby
}

// promote stops the primary, and lets the standby take its place at the same address.
func (s *scene) promote(standby *pgtest.Server) {
	s.t.Helper()
	s.server.Crash()
	if err := standby.Exec(s.Ctx, "postgres", "DO $$ BEGIN ASSERT pg_promote(true, 30); END $$"); err != nil {
		s.t.Fatal(err)
	}
	s.server = standby
	s.proxy.routeTo(standby)
	s.proxy.hangUpAll()
}

// R19, R18, I1, I2, I8: the server returns in its state before the last rotation, or in the middle of it, at every step of a
// rotation. The published login works again, and nothing else is changed.
func TestAServerThatLostTheRotationGetsThePublishedLoginBack(t *testing.T) {
	type attempt struct {
		loss
		version int
		step    int // after this write of the rotation; 0: long after it
	}
	var all []attempt
	for _, l := range losses {
		for _, version := range []int{15, 18} {
			for step := range rotationWrites + 1 {
				all = append(all, attempt{l, version, step})
			}
		}
	}
	for _, a := range sample(size.Random(t, 0), all, 6, 16) {
		t.Run(fmt.Sprintf("%d, %s after write %d", a.version, a.name, a.step), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, pgtest.StartFor(t, pgtest.Options{Version: a.version, Settings: safe}), impatient)
			s.play(life[0])
			forget := a.before(s)
			s.afterWrite(a.step, func() { s.down = true; forget(); s.down = true })
			life[1].begin(s)
			s.until("the rotation", recovery, func() bool { return life[1].done(s) || s.down })
			if a.step == 0 {
				s.down = true
				forget()
			}
			s.down = true // until rekey has detected it
			s.until("the published login to work again", 2*recovery, func() bool {
				return s.quiet() && s.works(s.secret("orders-db")) == nil && s.ledger().Previous == nil
			})
			s.down = false
			s.checkKnown()
			if made := s.ledger().LastSeq; made > 3 {
				t.Errorf("%d versions were created, want 2, or 3 if the candidate was lost:%s", made, s.describe())
			}
			before := s.credential.Status.Revision
			s.Step(interval + time.Hour)
			s.until("the next rotation", recovery, func() bool { return s.credential.Status.Revision == before+1 && s.quiet() })
			s.play(life[3])
		})
	}
}

// afterWrite runs a function once, after a write of the process, or never if step is 0.
func (s *scene) afterWrite(step int, what func()) {
	writes := 0
	s.process.Hook(func(_ context.Context, r world.Request, do func() error) error {
		err := do()
		if r.Writes() {
			if writes++; writes == step {
				what()
			}
		}
		return err
	})
}

// R19: a copy from two rotations ago has another password for the published login, under an older marker.
func TestACopyFromTwoRotationsAgoIsDetected(t *testing.T) {
	s := newScene(t, pgtest.StartFor(t, pgtest.Options{Settings: safe}), impatient)
	s.play(life[0])
	forget := losses[0].before(s)
	s.play(life[1])
	s.play(life[2])
	s.Step(interval)
	s.until("the second rotation", recovery, func() bool { return s.credential.Status.Revision == 3 && s.quiet() })
	published := s.secret("orders-db")
	forget()
	s.down = true
	if s.works(published) == nil {
		t.Fatal("the copy accepts the published password")
	}
	reported := false
	s.until("the published login to work again", 2*recovery, func() bool {
		reported = reported || s.condition(v1alpha1.ConditionVerified) == "False/"+v1alpha1.ReasonCredentialRejected
		return reported && s.quiet() && s.works(published) == nil
	})
	if now := s.secret("orders-db"); string(now.Data["password"]) != string(published.Data["password"]) {
		t.Error("the password changed, but the published one must be restored")
	}
	s.down = false
	s.until("the end of the overlap", 2*recovery, func() bool { return s.quiet() && s.ledger().Previous == nil })
	s.checkKnown()
}

// R19: a copy from before the credential has neither login.
func TestACopyFromBeforeTheCredentialGetsItsLoginBack(t *testing.T) {
	s := newScene(t, pgtest.StartFor(t, pgtest.Options{Version: 18, Settings: safe}), impatient)
	forget := losses[0].before(s)
	s.play(life[0])
	published := s.secret("orders-db")
	forget()
	s.down = true
	s.until("the published login to work again", 2*recovery, func() bool { return s.works(published) == nil })
	s.down = false
	s.until("quiet", recovery, s.quiet)
	s.checkAfter(life[0])
}

// R18: rekey does not write to a standby: it reports the reason, and starts no transaction. Once promoted, the standby is a
// primary like any other.
func TestAStandbyIsNotWrittenUntilItIsPromoted(t *testing.T) {
	for i := range life {
		t.Run("before the "+life[i].name, func(t *testing.T) {
			s := newScene(t, pgtest.StartFor(t, pgtest.Options{Version: []int{15, 18}[i%2], Settings: safe}), impatient)
			s.playBefore(i)
			standby := s.standby()
			s.eventually("the standby to catch up", func() bool {
				return standby.Exec(s.Ctx, "postgres", "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_roles WHERE rolname = '"+s.owner+"'); END $$") == nil
			})
			s.proxy.routeTo(standby)
			before := s.passwordsAtServer()
			s.proxy.takeMoments()
			life[i].begin(s)
			s.runFor(5 * time.Minute)
			if !s.deleting() && !s.reported(string(fault.ServerReadOnly), "primary") {
				t.Errorf("nothing reports that the server is a standby:%s", s.describe())
			}
			if i == 0 {
				if _, err := s.process.Reconcile(s.database); err != nil {
					t.Fatal(err)
				}
				s.Get(s.database)
				seen, _ := s.proxy.takeMoments()
				for _, m := range seen {
					if m.is("begin") {
						t.Errorf("a transaction was started on a standby: %v", m)
					}
				}
			}
			if now := s.passwordsAtServer(); now != before {
				t.Error("the logins changed")
			}
			s.promote(standby)
			s.until("the "+life[i].name+" after the promotion", recovery, func() bool { return life[i].done(s) })
			s.checkAfter(life[i])
		})
	}
}
