// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/lifecycle"
)

// Leader election does not fence: a process can be paused for any time between any two calls, while another one takes over, and
// then continue with stale knowledge.

// actor is one of two processes in one world. It runs call by call.
type actor struct {
	*process
	next  func() (struct{}, bool)
	yield func()
	out   lifecycle.Outcome
}

// begin starts a run with the spec as it is now.
func (a *actor) begin() {
	s := a.world.spec
	a.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = func() { yield(struct{}{}) }
		a.world.yield = a.yield
		out, died := a.drive(s)
		if a.out = out; died {
			a.process = a.world.boot()
		}
	})
}

// step lets the run make its next call and pauses it before the one after; it returns false once the run has ended.
func (a *actor) step() bool {
	a.world.yield = a.yield
	_, more := a.next()
	if !more {
		a.next = nil
	}
	return more
}

// finish completes the run.
func (a *actor) finish() {
	for a.next != nil {
		a.step()
	}
}

// alone lets one process reconcile until an instant, and plays the script.
func (w *world) alone(p *process, until time.Time) *process {
	defer func(other func()) { w.yield = other }(w.yield)
	w.yield = nil
	for range maxReconciles {
		out, died := w.reconcile(p)
		if died {
			p = w.boot()
			continue
		}
		if out.Withdrawn || !w.now.Before(until) {
			return p
		}
		wake := out.WakeAt()
		if until.Before(wake) {
			wake = until
		}
		w.sleep(wake)
	}
	return p
}

// stopped describes how one process is paused and what happens meanwhile.
type stopped struct {
	call      int           // before which call of its life
	meanwhile time.Duration // how long the other one continues alone
	event     string
	do        func(*world) // what happens at the moment of the pause; only the other one learns of it
	fate      fate         // of the first effect after it continues
}

func (d stopped) String() string {
	return fmt.Sprintf("stopped before call %d for %s, meanwhile %s; then %s its next effect", d.call, d.meanwhile, d.event, d.fate)
}

const (
	duoLife  = 26 * time.Hour
	deletion = "it is deleted"
)

// play runs the first process until it is paused, then the second one alone, then the first one's run to its end, then
// the second one until the world settles. more is false if the life has fewer calls.
func (d stopped) play(trace *strings.Builder, change func(*world)) (more bool, err error) {
	w := newWorld(twoSlots)
	w.watch.twoDrivers, w.trace = true, trace
	if change != nil {
		change(w)
	}
	first := &actor{process: w.boot()}
	for calls := 0; calls < d.call; {
		if first.next == nil {
			if !w.now.Before(start.Add(8 * time.Hour)) {
				return false, nil
			}
			if wake := first.out.WakeAt(); !wake.IsZero() {
				w.sleep(wake)
			}
			first.begin()
		}
		if first.step() {
			calls++
		}
	}
	w.say("* the first process is stopped; %s", d.event)
	if d.event == deletion && w.ledger.version == 0 {
		return true, nil // what is created for an object that is already gone has no owner: see docs/design/0001-planner.md
	}
	if d.do != nil {
		d.do(w)
	}
	second := w.alone(w.boot(), w.now.Add(d.meanwhile))
	w.say("* the first process continues")
	if d.fate != asUsual {
		w.plan = map[int]fate{w.effects + 1: d.fate}
	}
	first.finish()
	w.yield, w.plan = nil, nil
	w.land(true)
	w.say("* the second process is alone again")
	if w.spec.deleting {
		w.alone(second, w.now.Add(time.Hour))
		w.gone()
		return true, w.watch.broken
	}
	second = w.alone(second, start.Add(duoLife))
	scenario{}.rest(w, second)
	return true, w.watch.broken
}

// gone checks what is left after a deletion in which two processes took part.
func (w *world) gone() {
	if w.secret.version != 0 {
		w.watch.breach(w, "I9: the Secret outlived the object")
	}
	for slot, l := range w.slots {
		if l.enabled {
			w.watch.breach(w, "I2: login %q is open after the deletion", slot)
		}
	}
}

func duoTrials(yield func(stopped) bool) {
	events := []struct {
		name string
		do   func(*world)
	}{
		{"nothing happens", nil},
		{"the spec is edited", func(w *world) { w.spec.fingerprint = "v2" }},
		{"a rotation is asked for", func(w *world) { w.spec.rotate = "now" }},
		{deletion, deletes(true)},
	}
	for call := 1; call < 80; call++ {
		for _, e := range events {
			for _, meanwhile := range []time.Duration{time.Second, 10 * time.Minute, 2 * time.Hour, 7 * time.Hour, 13 * time.Hour} {
				for _, f := range []fate{asUsual, dieAfter, dieInside} {
					if e.name == deletion && f != asUsual {
						continue // nothing records what a process opens for a deleted object just before it dies
					}
					if !yield(stopped{call: call, meanwhile: meanwhile, event: e.name, do: e.do, fate: f}) {
						return
					}
				}
			}
		}
	}
}

func TestAProcessThatContinuesAfterAnotherTookOverDoesNoHarm(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*world){
		"where retirements are remembered": nil,
		"where changes of a login wait":    func(w *world) { w.locks = true },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopEverywhere(t, change)
		})
	}
}

func stopEverywhere(t *testing.T, change func(*world)) {
	t.Helper()
	var mu sync.Mutex
	count, bad := 0, 0
	work := make(chan stopped, 64)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for d := range work {
				more, err := d.play(nil, change)
				mu.Lock()
				if more {
					count++
				}
				if err != nil {
					if bad++; bad <= 3 {
						text := &strings.Builder{}
						_, _ = d.play(text, change)
						t.Errorf("%s: %v\n%s", d, err, text)
					}
				}
				mu.Unlock()
			}
		})
	}
	for d := range duoTrials {
		work <- d
	}
	close(work)
	group.Wait()
	t.Logf("%d interleavings of two processes settled, %d did not", count, bad)
	if count < 1000 {
		t.Errorf("only %d interleavings were played", count)
	}
}

func TestReadingTheLedgerBeforeTheSecretIsNoticed(t *testing.T) {
	t.Parallel()
	for d := range duoTrials {
		if _, err := d.play(nil, func(w *world) { w.ledgerFirst = true }); err != nil {
			return
		}
	}
	t.Error("a store that reads the ledger first breaks no promise here: the simulation is blind to that race")
}

// Two processes that take turns at random, call by call.
func TestTwoProcessesThatTakeTurnsSettle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		text := &strings.Builder{}
		if err := turns(twoSlots, seed, nil); err != nil {
			_ = turns(twoSlots, seed, text)
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
	}
}

// The same for the other kinds of source: a candidate's ledger is a fence, too.
func TestTwoProcessesOfEveryKindThatTakeTurnsSettle(t *testing.T) {
	t.Parallel()
	for called, k := range map[string]kind{"a late issuer": late, "a proven certificate": proven, "a minted key": minted} {
		t.Run(called, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				text := &strings.Builder{}
				if err := turns(k, seed, nil); err != nil {
					_ = turns(k, seed, text)
					t.Fatalf("seed %d: %v\n%s", seed, err, text)
				}
			}
		})
	}
}

func turns(k kind, seed uint64, trace *strings.Builder) error {
	w := newWorld(k)
	w.watch.twoDrivers, w.trace = true, trace
	dice := rand.New(rand.NewPCG(seed, 0))
	both := []*actor{{process: w.boot()}, {process: w.boot()}}
	for round := 0; w.now.Before(start.Add(14 * time.Hour)); round++ {
		if round > 4000 {
			return fmt.Errorf("time does not pass")
		}
		a := both[dice.IntN(2)]
		if a.next == nil {
			if wake := a.out.WakeAt(); wake.After(w.now) && both[0].next == nil && both[1].next == nil {
				w.sleep(wake)
			}
			a.begin()
		}
		a.step()
		if dice.IntN(200) == 0 {
			w.spec.fingerprint = fmt.Sprintf("v%d", dice.IntN(3))
		}
	}
	both[0].finish()
	both[1].finish()
	w.yield = nil
	scenario{}.rest(w, w.alone(w.boot(), start.Add(duoLife)))
	return w.watch.broken
}
