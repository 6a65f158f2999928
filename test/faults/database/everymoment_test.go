// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/rekey/rekey/test/size"
)

// momentsOf plays a life without faults, and returns the moments of each stage.
func momentsOf(t *testing.T, version int) [][]moment {
	t.Helper()
	var out [][]moment
	t.Run(fmt.Sprintf("%d, without faults", version), func(t *testing.T) {
		s := newScene(t, servers.Of(t, version), impatient)
		for _, st := range life {
			s.proxy.takeMoments()
			st.begin(s)
			s.until("the "+st.name, recovery, func() bool { return st.done(s) })
			s.checkAfter(st)
			seen, _ := s.proxy.takeMoments()
			out = append(out, seen)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return out
}

// attack is a fault at one moment, by its number, in each stage of a life.
type attack struct {
	n int
	wireFault
}

// attacksOn returns every fault at every moment, starting with the moments that change something.
func attacksOn(moments [][]moment) (all []attack) {
	longest := 0
	for _, stage := range moments {
		longest = max(longest, len(stage))
	}
	for n := range longest {
		for _, d := range wireFaults {
			all = append(all, attack{n + 1, d})
		}
	}
	return all
}

// halfOf returns half of the faults of every moment, a different half in each run.
func halfOf(random *rand.Rand, all []attack) []attack {
	begin := random.IntN(2)
	return slices.DeleteFunc(all, func(a attack) bool { return (a.n+slices.Index(wireFaults, a.wireFault)+begin)%2 != 0 })
}

// R2, R3, R27, I1, I2, I3, I8, I9: every request of rekey to the server fails, one by one, in each stage of a life.
func TestALoginSurvivesAFaultAtEveryMomentOnTheWire(t *testing.T) {
	for _, version := range []int{15, 18} {
		moments := momentsOf(t, version)
		t.Logf("PostgreSQL %d: %d moments in the first issue, %d in the rotation, %d in the retirement, %d in the deletion",
			version, len(moments[0]), len(moments[1]), len(moments[2]), len(moments[3]))
		random := size.Random(t, 0)
		attacks := attacksOn(moments)
		if size.Full() && version == 15 {
			attacks = halfOf(random, attacks)
		} else {
			attacks = sample(random, attacks, 14, 20)
		}
		for _, a := range attacks {
			t.Run(fmt.Sprintf("%d, moment %d %s", version, a.n, a.wireFault), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, servers.Of(t, version), impatient)
				for i, st := range life {
					// Until the fault, a stage runs as it did without one.
					if hit := s.playWith(st, func(m moment) bool { return m.n == a.n }, a.wireFault); !hit && a.n <= len(moments[i]) {
						t.Errorf("the %s had no moment %d: nothing was tested", st.name, a.n)
					}
				}
			})
		}
	}
}

// playWith takes the credential through a stage in which the fault hits the first chosen moment. A held request reaches the
// server as soon as rekey has given it up. It reports whether such a moment came.
func (s *scene) playWith(st stage, chosen func(moment) bool, d wireFault) (met bool) {
	s.t.Helper()
	s.proxy.takeMoments()
	var mu sync.Mutex
	var hit []moment
	s.proxy.set(func(m moment) wireFault {
		mu.Lock()
		defer mu.Unlock()
		if len(hit) > 0 || !chosen(m) {
			return pass
		}
		hit = append(hit, m)
		return d
	})
	st.begin(s)
	s.after = func() {
		mu.Lock()
		defer mu.Unlock()
		if d == hold && len(hit) > 0 {
			s.proxy.repair() // rekey has given up by now, and does not see the result
		}
	}
	s.until(fmt.Sprintf("the %s, in which one moment %s", st.name, d), recovery, func() bool { return st.done(s) })
	s.after = nil
	s.proxy.repair()
	s.checkAfter(st)
	if s.t.Failed() {
		s.t.Fatalf("in the %s, %v %s", st.name, hit, d)
	}
	mu.Lock()
	defer mu.Unlock()
	return len(hit) > 0
}

// play takes the credential through a stage without faults.
func (s *scene) play(st stage) {
	s.t.Helper()
	s.playWith(st, func(moment) bool { return false }, pass)
}

// playBefore takes the credential through the stages before the one with that number.
func (s *scene) playBefore(number int) {
	s.t.Helper()
	for _, st := range life[:number] {
		s.play(st)
	}
}
