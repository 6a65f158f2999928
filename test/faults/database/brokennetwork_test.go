// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
)

// breakage is what is wrong with every connection, as long as it lasts.
type breakage struct {
	name   string
	script func(moment) deed
	// words that a condition holds meanwhile, beside the address and when it is tried again.
	reason fault.Reason
	words  string
}

func always(what string, d deed) func(moment) deed {
	return func(m moment) deed {
		if m.what == what {
			return d
		}
		return pass
	}
}

// statements of the admin, and what comes after the login of an application.
func statements(d deed) func(moment) deed {
	return func(m moment) deed {
		switch m.what {
		case "connect", "tls", "startup", "password", "cancel":
			return pass
		}
		return d
	}
}

var breakages = []breakage{
	{"every connection is refused", always("connect", cutBefore), fault.ServerUnreachable, "check that the server runs"},
	{"nobody answers", always("connect", mute), fault.ServerUnreachable, "no answer in time"},
	{"TLS is cut", always("tls", cutWithin), fault.ServerUnreachable, "check that the server runs"},
	{"TLS never ends", always("tls", hold), fault.ServerUnreachable, "no answer in time"},
	{"the login is cut", always("password", cutAfter), fault.ServerUnreachable, "check that the server runs"},
	{"the login never ends", always("password", mute), fault.ServerUnreachable, "no answer in time"},
	{"every statement is cut", statements(cutBefore), fault.ServerUnreachable, "check that the server runs"},
	{"no statement is answered", statements(mute), fault.ServerUnreachable, "no answer in time"},
	{"no statement arrives in time", statements(hold), fault.ServerUnreachable, "no answer in time"},
}

// R2, R3, R24, I1, I2, I3, I8: a network that stays broken, from the beginning of each stage or from its middle, until it
// is mended; rekey says what is wrong and where, and then goes on as if nothing had been.
func TestABrokenNetworkIsToldAndOutlived(t *testing.T) {
	type attempt struct {
		breakage
		during int
	}
	var all []attempt
	for _, b := range breakages {
		for i := range life {
			all = append(all, attempt{b, i})
		}
	}
	for _, a := range sample(chance(t), all, 12, 24) {
		t.Run(a.name+" during the "+life[a.during].name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, sharedServer(t, 15), impatient)
			s.liveUntil(a.during)
			st := life[a.during]
			s.wire.set(a.script)
			st.begin(s)
			s.goOn(3 * time.Second)
			if !s.deleting() && !s.said(string(a.reason), s.wire.address(), a.words) {
				t.Errorf("no condition says what is wrong and where:%s", s.describe())
			}
			if st.done(s) {
				t.Fatalf("the %s is done although the network is broken", st.name)
			}
			s.wire.mend()
			s.until("the "+st.name+" after the network was mended", recovery, func() bool { return st.done(s) })
			s.checkAfter(st)
		})
	}
}

// I10, R7: however long it lasts, the server is not asked much more often than its backoff says. What lasts ten times as
// long costs a few attempts more.
func TestABrokenServerIsAskedEverMoreSeldom(t *testing.T) {
	for i, most := range map[int][2]int{
		// Nothing is published: five minutes at most between two attempts. A rotation that is due has days: an hour.
		0: {18, 12}, 1: {18, 6}, 2: {18, 6},
	} {
		t.Run(life[i].name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, sharedServer(t, 15), impatient)
			s.liveUntil(i)
			s.wire.set(always("connect", cutBefore))
			life[i].begin(s)
			s.wire.forget()
			s.goOn(30 * time.Minute)
			_, first := s.wire.forget()
			s.goOn(time.Hour)
			_, then := s.wire.forget()
			if first > most[0] || then > most[1]*2 {
				t.Errorf("%d connections in the first half hour and %d in the hour after it, want at most %d and %d:%s", first, then, most[0], 2*most[1], s.describe())
			}
			if first == 0 || then == 0 {
				t.Error("it was given up")
			}
			s.wire.mend()
			s.until("the "+life[i].name, recovery, func() bool { return life[i].done(s) })
			s.checkAfter(life[i])
		})
	}
}

// I9, R23: a deletion does not wait for ever for a server that nobody reaches, and says what it leaves behind.
func TestADeletionEndsInTimeUnderEveryBreakage(t *testing.T) {
	for _, b := range sample(chance(t), breakages, 3, len(breakages)) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, sharedServer(t, 15), impatient)
			s.liveUntil(2)
			s.Events()
			s.wire.set(b.script)
			life[3].begin(s)
			s.until("the end of the deletion", 12*time.Minute, s.gone)
			events := strings.Join(s.Events(), "\n")
			if !strings.Contains(events, "Warning "+v1alpha1.ReasonCleanupIncomplete) || !strings.Contains(events, s.base+"_app") {
				t.Errorf("nothing says what was left behind; Events: %s", events)
			}
			if s.secret("orders-db") != nil {
				t.Error("the Secret is left")
			}
			if _, connections := s.wire.forget(); connections > 40 {
				t.Errorf("%d connections in ten minutes, want at most 40", connections)
			}
		})
	}
}

// R27: what was lost on the way back is not done twice: each commit of a life is lost two times before one passes.
func TestACommitIsLostTwiceInARow(t *testing.T) {
	for _, version := range []int{15, 18} {
		for _, d := range []deed{cutBefore, cutAfter, cutWithin} {
			t.Run(fmt.Sprintf("%d, a commit %s twice before it passes", version, d), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, sharedServer(t, version), impatient)
				for _, st := range life {
					lost := 0
					s.wire.set(func(m moment) deed {
						if !m.is("commit") || lost == 2 {
							return pass
						}
						lost++
						return d
					})
					st.begin(s)
					s.until("the "+st.name, recovery, func() bool { return st.done(s) })
					if lost != 2 {
						t.Errorf("%d commits were lost in the %s, want 2", lost, st.name)
					}
					s.checkAfter(st)
				}
			})
		}
	}
}
