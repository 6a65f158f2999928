// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// momentsOf runs a life in which nothing goes wrong, and gives the moments of each stage.
func momentsOf(t *testing.T, version int) [][]moment {
	t.Helper()
	var out [][]moment
	t.Run(fmt.Sprintf("%d, nothing goes wrong", version), func(t *testing.T) {
		s := newScene(t, sharedServer(t, version), impatient)
		for _, st := range life {
			s.wire.forget()
			st.begin(s)
			s.until("the "+st.name, recovery, func() bool { return st.done(s) })
			s.checkAfter(st)
			seen, _ := s.wire.forget()
			out = append(out, seen)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return out
}

// attack is a deed at one moment, by its number, of every stage of a life.
type attack struct {
	n int
	deed
}

// attacksOn gives every deed at every moment; the moments at which something changes come first.
func attacksOn(moments [][]moment) (all []attack) {
	longest := 0
	for _, stage := range moments {
		longest = max(longest, len(stage))
	}
	for n := range longest {
		for _, d := range deeds {
			all = append(all, attack{n + 1, d})
		}
	}
	return all
}

// halfOf gives every moment half of the deeds: in one run these, in another one those.
func halfOf(random *rand.Rand, all []attack) []attack {
	begin := random.IntN(2)
	return slices.DeleteFunc(all, func(a attack) bool { return (a.n+slices.Index(deeds, a.deed)+begin)%2 != 0 })
}

// R2, R3, R27, I1, I2, I3, I8, I9: at every request that rekey makes of the server, one by one, in each stage of a life.
func TestEveryMomentOnTheWireMayFail(t *testing.T) {
	for _, version := range []int{15, 18} {
		moments := momentsOf(t, version)
		t.Logf("PostgreSQL %d: %d moments in the first issue, %d in the rotation, %d in the retirement, %d in the deletion",
			version, len(moments[0]), len(moments[1]), len(moments[2]), len(moments[3]))
		random := chance(t)
		attacks := attacksOn(moments)
		if full() && version == 15 {
			attacks = halfOf(random, attacks)
		} else {
			attacks = sample(random, attacks, 14, 20)
		}
		for _, a := range attacks {
			t.Run(fmt.Sprintf("%d, moment %d %s", version, a.n, a.deed), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, sharedServer(t, version), impatient)
				for i, st := range life {
					// Until the deed, a stage is lived as it was without one.
					if hit := s.live(st, func(m moment) bool { return m.n == a.n }, a.deed); !hit && a.n <= len(moments[i]) {
						t.Errorf("the %s had no moment %d: nothing was shown", st.name, a.n)
					}
				}
			})
		}
	}
}

// live takes the credential through a stage in which the deed happens to the first moment that is chosen. What is held
// goes on to the server as soon as rekey has given it up. It tells whether such a moment came.
func (s *scene) live(st stage, chosen func(moment) bool, d deed) (met bool) {
	s.t.Helper()
	s.wire.forget()
	var mu sync.Mutex
	var hit []moment
	s.wire.set(func(m moment) deed {
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
			s.wire.mend() // rekey has given up by now, and hears no more of it
		}
	}
	s.until(fmt.Sprintf("the %s, in which one moment %s", st.name, d), recovery, func() bool { return st.done(s) })
	s.after = nil
	s.wire.mend()
	s.checkAfter(st)
	if s.t.Failed() {
		s.t.Fatalf("in the %s, %v %s", st.name, hit, d)
	}
	mu.Lock()
	defer mu.Unlock()
	return len(hit) > 0
}

// liveOn takes the credential through a stage in which nothing goes wrong.
func (s *scene) liveOn(st stage) {
	s.t.Helper()
	s.live(st, func(moment) bool { return false }, pass)
}

// liveUntil takes the credential through the stages before the one of that number.
func (s *scene) liveUntil(number int) {
	s.t.Helper()
	for _, st := range life[:number] {
		s.liveOn(st)
	}
}
