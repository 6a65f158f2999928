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
	"github.com/rekey/rekey/test/size"
)

// breakage is a permanent fault of every connection.
type breakage struct {
	name   string
	script func(moment) wireFault
	// words that a condition must contain meanwhile, besides the address and the time of the next attempt.
	reason fault.Reason
	words  string
}

func always(what string, d wireFault) func(moment) wireFault {
	return func(m moment) wireFault {
		if m.what == what {
			return d
		}
		return pass
	}
}

// statements selects the admin's statements and everything after the login of an application.
func statements(d wireFault) func(moment) wireFault {
	return func(m moment) wireFault {
		switch m.what {
		case "connect", "tls", "startup", "password", "cancel":
			return pass
		}
		return d
	}
}

var breakages = []breakage{
	{"every connection is refused", always("connect", cutBefore), fault.ServerUnreachable, "check that the server runs"},
	{"the server does not answer", always("connect", mute), fault.ServerUnreachable, "no answer in time"},
	{"TLS is cut off", always("tls", cutWithin), fault.ServerUnreachable, "check that the server runs"},
	{"TLS never finishes", always("tls", hold), fault.ServerUnreachable, "no answer in time"},
	{"the login is cut off", always("password", cutAfter), fault.ServerUnreachable, "check that the server runs"},
	{"the login never finishes", always("password", mute), fault.ServerUnreachable, "no answer in time"},
	{"every statement is cut off", statements(cutBefore), fault.ServerUnreachable, "check that the server runs"},
	{"no statement is answered", statements(mute), fault.ServerUnreachable, "no answer in time"},
	{"no statement arrives in time", statements(hold), fault.ServerUnreachable, "no answer in time"},
}

// R2, R3, R24, I1, I2, I3, I8: the network breaks at the start of each stage or in its middle, and stays broken until it is
// repaired. rekey reports the cause and the place, and then continues as if nothing had happened.
func TestABrokenNetworkIsReportedAndSurvived(t *testing.T) {
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
	for _, a := range sample(size.Random(t, 0), all, 12, 24) {
		t.Run(a.name+" during the "+life[a.during].name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, servers.Of(t, 15), impatient)
			s.playBefore(a.during)
			st := life[a.during]
			s.proxy.set(a.script)
			st.begin(s)
			s.runFor(3 * time.Second)
			if !s.deleting() && !s.reported(string(a.reason), s.proxy.address(), a.words) {
				t.Errorf("no condition reports the cause and the place:%s", s.describe())
			}
			if st.done(s) {
				t.Fatalf("the %s completed although the network is broken", st.name)
			}
			s.proxy.repair()
			s.until("the "+st.name+" after the network was repaired", recovery, func() bool { return st.done(s) })
			s.checkAfter(st)
		})
	}
}

// I10, R7: however long the fault lasts, rekey does not contact the server much more often than its backoff allows. A fault
// that lasts ten times as long costs only a few more attempts.
func TestABrokenServerIsContactedLessAndLessOften(t *testing.T) {
	for i, most := range map[int][2]int{
		// Before the first version is published, attempts are at most five minutes apart. A due rotation has days: one hour.
		0: {18, 12}, 1: {18, 6}, 2: {18, 6},
	} {
		t.Run(life[i].name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, servers.Of(t, 15), impatient)
			s.playBefore(i)
			s.proxy.set(always("connect", cutBefore))
			life[i].begin(s)
			s.proxy.takeMoments()
			s.runFor(30 * time.Minute)
			_, first := s.proxy.takeMoments()
			s.runFor(time.Hour)
			_, then := s.proxy.takeMoments()
			if first > most[0] || then > most[1]*2 {
				t.Errorf("%d connections in the first half hour and %d in the hour after it, want at most %d and %d:%s", first, then, most[0], 2*most[1], s.describe())
			}
			if first == 0 || then == 0 {
				t.Error("rekey gave up")
			}
			s.proxy.repair()
			s.until("the "+life[i].name, recovery, func() bool { return life[i].done(s) })
			s.checkAfter(life[i])
		})
	}
}

// I9, R23: a deletion does not wait forever for an unreachable server, and reports what it leaves behind.
func TestADeletionFinishesInTimeDespiteEveryBreakage(t *testing.T) {
	for _, b := range sample(size.Random(t, 0), breakages, 3, len(breakages)) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, servers.Of(t, 15), impatient)
			s.playBefore(2)
			s.Events()
			s.proxy.set(b.script)
			life[3].begin(s)
			s.until("the end of the deletion", 12*time.Minute, s.gone)
			events := strings.Join(s.Events(), "\n")
			if !strings.Contains(events, "Warning "+v1alpha1.ReasonCleanupIncomplete) || !strings.Contains(events, s.base+"_app") {
				t.Errorf("nothing reports what was left behind; Events: %s", events)
			}
			if s.secret("orders-db") != nil {
				t.Error("the Secret still exists")
			}
			if _, connections := s.proxy.takeMoments(); connections > 40 {
				t.Errorf("%d connections in ten minutes, want at most 40", connections)
			}
		})
	}
}

// R27: rekey does not repeat an operation because its response was lost: each commit of a life is lost twice before one
// succeeds.
func TestACommitThatIsLostTwiceIsNotRepeated(t *testing.T) {
	for _, version := range []int{15, 18} {
		for _, d := range []wireFault{cutBefore, cutAfter, cutWithin} {
			t.Run(fmt.Sprintf("%d, a commit %s twice before it succeeds", version, d), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, servers.Of(t, version), impatient)
				for _, st := range life {
					lost := 0
					s.proxy.set(func(m moment) wireFault {
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
