// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rekey/rekey/test/size"
)

// plain is a life without faults.
type plain struct {
	effects []effect
	events  []string
}

// playWithoutFaults plays a life without faults until two in a row have the same effects: a real server can respond differently from
// time to time. It counts a session that is about to end, and then there is one more write of a status.
func playWithoutFaults(w *worker, of life) (plain, error) {
	const tries = 4
	var last plain
	for range tries {
		r := w.newRun(of)
		effects, err := r.play()
		now := plain{effects: effects, events: append([]string{}, r.seen.events...)}
		if err != nil || slices.Equal(now.effects, last.effects) {
			return now, err
		}
		last = now
	}
	return last, fmt.Errorf("machinery: of %d lives without faults, no two in a row have the same effects", tries)
}

// playWithFaults plays a life with faults, and compares its start with the life without faults.
func playWithFaults(w *worker, of life, without plain, orders ...order) ([]effect, error) {
	const tries = 3
	for try := 1; ; try++ {
		r := w.newRun(of)
		r.baseline = without.events
		effects, err := r.play(orders...)
		if errors.Is(err, errUnmet) && len(orders) == 1 && try < tries {
			continue
		}
		if err != nil {
			return effects, err
		}
		// If a real server responded differently, the fault hit a place other than intended, and surviving it proves nothing.
		if err = sameUntil(orders[0].step, effects, without.effects); err == nil || try == tries {
			return effects, err
		}
	}
}

// sameUntil reports whether two lives have the same effects up to a step.
func sameUntil(step int, effects, without []effect) error {
	for i, e := range effects[:min(len(effects), step)] {
		if i >= len(without) || without[i].name != e.name {
			return fmt.Errorf("machinery: step %d was %q, but is another one without a fault", i+1, e.name)
		}
	}
	return nil
}

// chooseOrders returns the orders to test; the seed chooses the samples. Full size tests all orders after which the process forgets,
// and one in five of those after which it lives on. On a second version of a server it tests every fault of the calls once with
// a process that forgets, and half of them once more with one that lives on: only the calls can behave differently on another
// version. Short size tests every second fault in the same way, and for a kind that takes long all faults of the calls and of
// every fifth request. Both sizes do the latter for a life beside the main ones and for a kind whose twin is tested, unless
// -update writes the table.
func chooseOrders(of life, effects []effect, version int) []order {
	const every = 5
	var out []order
	random := rand.New(rand.NewPCG(size.Seed(), uint64(len(effects))))
	offset := random.IntN(every)
	for i, e := range effects {
		all := waysToFail(i+1, e.sort)
		switch {
		case *only != "":
			out = append(out, slices.DeleteFunc(all, func(o order) bool { return o.String() != *only })...)
		case size.Full() && version == versions()[0] && (!of.beside && !of.kind.twin || *update):
			out = append(out, slices.DeleteFunc(all, func(o order) bool { return o.fate == lives && random.IntN(5) > 0 })...)
		case version != versions()[0]:
			if e.sort == calls && !of.beside {
				out = append(out, onceEach(all, 1, random)...)
			}
		case of.kind.sampled && (e.sort == calls || (i+offset)%every == 0):
			out = append(out, onceEach(all, 1, random)...)
		case !of.kind.sampled:
			out = append(out, onceEach(all, 2, random)...)
		}
	}
	return out
}

// onceEach draws one of so many faults: once with a process that forgets, and half of them once more with one that lives on.
// Faults that took effect unnoticed are always drawn, because deliberate breaks rely on them.
func onceEach(all []order, of int, random *rand.Rand) []order {
	var out []order
	for _, f := range []fault{before, after, lost, conflict, timeout} {
		if random.IntN(of) != 0 && f != after && f != lost {
			continue
		}
		forgets, remembers := withFault(all, f)
		if len(forgets) > 0 {
			out = append(out, forgets[random.IntN(len(forgets))])
		}
		if len(remembers) > 0 && random.IntN(2) == 0 {
			out = append(out, remembers[random.IntN(len(remembers))])
		}
	}
	return out
}

// withFault returns the orders of one fault: those after which the process loses its memory, and the others.
func withFault(all []order, f fault) (forgets, remembers []order) {
	for _, o := range all {
		switch {
		case o.fault != f:
		case o.fate == lives:
			remembers = append(remembers, o)
		default:
			forgets = append(forgets, o)
		}
	}
	return forgets, remembers
}

// versions returns the PostgreSQL versions on which lives with a database run.
func versions() []int {
	if size.Full() || *only != "" {
		return []int{15, 18}
	}
	return []int{15}
}

func TestEveryStepOfALifeSurvivesEveryFault(t *testing.T) {
	t.Logf("REKEY_SEED=%d", size.Seed())
	found := newTable(t)
	for _, version := range versions() {
		all := newWorkers(t, version)
		for _, of := range theLives() {
			if version != versions()[0] && !of.kind.database {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s/%d", of.kind.name, of.name, version), func(t *testing.T) { everyStep(t, all, of, version, found) })
		}
	}
	found.close(t)
}

func everyStep(t *testing.T, all []*worker, of life, version int, found *table) {
	t.Helper()
	without, err := playWithoutFaults(all[0], of)
	if err != nil {
		t.Fatalf("without any fault: %v (after %d steps)", err, len(without.effects))
	}
	found.steps(t, of, without.effects)
	var mu sync.Mutex
	share(all, chooseOrders(of, without.effects, version), func(w *worker, o order) {
		_, err := playWithFaults(w, of, without, o)
		found.note(of, o, err)
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			t.Errorf("step %d, %s, fails %q and the process %s: %v\n\talone: go test ./test/crash/matrix -run '^%s$' -order %s",
				o.step, without.effects[o.step-1].name, o.fault, o.fate, err, strings.ReplaceAll(t.Name(), "/", "$/^"), o)
		}
	})
}

// These are the numbers of random pairs of faults in one life: the second fault comes while the first is being repaired, or
// later.
const (
	pairsShort = 40
	pairsFull  = 60
)

func TestALifeSurvivesTwoFaults(t *testing.T) {
	t.Logf("REKEY_SEED=%d", size.Seed())
	all := newWorkers(t, versions()[0])
	type pair struct {
		of      life
		without plain
		random  *rand.Rand
	}
	random := rand.New(rand.NewPCG(size.Seed(), 1))
	lives, known := theLives(), map[string]plain{}
	many := pairsShort
	if size.Full() {
		many = pairsFull
	}
	var jobs []pair
	for i := range many {
		of := lives[random.IntN(len(lives))]
		if random.IntN(2) == 0 {
			logins := credentialLives()
			of = logins[random.IntN(len(logins))]
		}
		without, ok := known[of.String()]
		if !ok {
			var err error
			if without, err = playWithoutFaults(all[0], of); err != nil {
				t.Fatalf("%s, without any fault: %v", of, err)
			}
			known[of.String()] = without
		}
		jobs = append(jobs, pair{of, without, rand.New(rand.NewPCG(size.Seed(), uint64(2+i)))})
	}
	var made atomic.Int64
	share(all, jobs, func(w *worker, p pair) {
		orders, err := twoFaults(w, p.of, p.without, p.random)
		if err != nil {
			t.Errorf("%s, with the faults %v: %v (REKEY_SEED=%d)", p.of, orders, err, size.Seed())
			return
		}
		made.Add(1)
	})
	t.Logf("survived %d lives with both faults", made.Load())
}

// twoFaults plays a life with one fault to learn which steps follow it, draws a second fault from them, and plays the life with
// both. If no step follows, or the life was shorter this time so that the second fault was not reached, it draws both again.
func twoFaults(w *worker, of life, without plain, random *rand.Rand) ([]order, error) {
	const tries = 10
	for range tries {
		step := 1 + random.IntN(len(without.effects))
		fitting := waysToFail(step, without.effects[step-1].sort)
		first := fitting[random.IntN(len(fitting))]
		effects, err := playWithFaults(w, of, without, first)
		if err != nil {
			return []order{first}, err
		}
		follow := len(effects) - step
		if follow <= 0 {
			continue
		}
		orders := []order{first, {step: step + 1 + random.IntN(follow), chance: random.IntN(1 << 20)}}
		if _, err = playWithFaults(w, of, without, orders...); !errors.Is(err, errUnmet) {
			return orders, err
		}
	}
	return nil, fmt.Errorf("%w: %d times in a row", errUnmet, tries)
}
