// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/test/size"
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
		out, died := a.reconcile(s)
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
	kind      kind
	call      int           // before which call of its life
	meanwhile time.Duration // how long the other one continues alone
	event     string
	do        func(*world) // what happens at the moment of the pause; only the other one learns of it
	fate      fate         // of the first effect after it continues
	stale     bool         // after that, it reconciles once more with the user's Secret as it was at the pause, from its cache
}

func (d stopped) String() string {
	text := fmt.Sprintf("%s: stopped before call %d for %s, meanwhile %s; then %s its next effect", d.kind, d.call, d.meanwhile, d.event, d.fate)
	if d.stale {
		text += ", and reconcile with an old cache"
	}
	return text
}

const (
	duoLife  = 26 * time.Hour
	deletion = "it is deleted"
)

// play runs the first process until it is paused, then the second one alone, then the first one's run to its end, then
// the second one until the world settles. more is false if the life has fewer calls.
func (d stopped) play(trace *strings.Builder, change func(*world)) (more bool, err error) {
	w := newWorld(d.kind)
	w.watch.twoDrivers, w.trace = true, trace
	if change != nil {
		change(w)
	}
	first := &actor{process: w.boot()}
	defer first.finish() // A paused run keeps its world in memory.
	if first.run(d.call) < d.call {
		return false, nil
	}
	w.say("* the first process is stopped; %s", d.event)
	if d.event == deletion && w.ledger.version == 0 && w.secret.version == 0 {
		return true, nil // what is created for an object that is already gone has no owner: see docs/design/0001-planner.md
	}
	cached := w.secret
	if d.do != nil {
		d.do(w)
	}
	second := w.alone(w.boot(), w.now.Add(d.meanwhile))
	w.say("* the first process continues")
	if d.fate != asUsual {
		w.plan = map[int]fate{w.effects + 1: d.fate}
	}
	first.finish()
	if d.stale {
		w.say("* the first process reconciles with an old cache")
		w.cached = &cached
		first.begin()
		first.finish()
		w.cached = nil
	}
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
	w.wantFewRequests()
	return true, w.watch.broken
}

// run makes the first calls of a life, which may end before that, and returns how many it made.
func (a *actor) run(calls int) (made int) {
	w := a.world
	for made < calls {
		if a.next == nil {
			if !w.now.Before(start.Add(8 * time.Hour)) {
				return made
			}
			if wake := a.out.WakeAt(); !wake.IsZero() {
				w.sleep(wake)
			}
			a.begin()
		}
		if a.step() {
			made++
		}
	}
	return made
}

// wantFewRequests checks that a process that was paused, one with an old spec and one with an old cache cost at most one
// certificate each.
func (w *world) wantFewRequests() {
	if issued := w.watch.publications(); w.certificates() && len(w.orders) > issued+3 {
		w.watch.breach(w, "the issuer had %d different requests for %d certificates", len(w.orders), issued)
	}
}

// gone checks what is left after a deletion in which two processes took part.
func (w *world) gone() {
	if w.certificates() {
		w.ledger, w.secret = object{}, object{} // the API server deletes what belongs to an object that does not exist
	}
	if w.secret.version != 0 {
		w.watch.breach(w, "I9: the Secret outlived the object")
	}
	if len(w.keys) > 0 || w.host != nil && w.host.open() > 0 {
		w.watch.breach(w, "I2: secrets are accepted after the deletion")
	}
	for slot, l := range w.slots {
		if l.enabled {
			w.watch.breach(w, "I2: login %q is open after the deletion", slot)
		}
	}
}

// duoTrials yields every way to stop one of two processes.
func duoTrials(k kind) iter.Seq[stopped] {
	events := []struct {
		name string
		do   func(*world)
	}{
		{"nothing happens", nil},
		{"the spec is edited", func(w *world) { w.spec.fingerprint = "v2" }},
		{"a rotation is requested", func(w *world) { w.spec.rotate = "now" }},
		{deletion, deletes(true)},
	}
	return func(yield func(stopped) bool) {
		for call := range callsOf(k) {
			for _, e := range events {
				for _, meanwhile := range []time.Duration{time.Second, 10 * time.Minute, 2 * time.Hour, 7 * time.Hour, 13 * time.Hour} {
					for _, f := range []fate{asUsual, dieAfter, dieInside} {
						if e.name == deletion && f != asUsual {
							continue // nothing records what a process opens for a deleted object just before it dies
						}
						if !yield(stopped{kind: k, call: call + 1, meanwhile: meanwhile, event: e.name, do: e.do, fate: f}) {
							return
						}
					}
				}
			}
		}
	}
}

// callsOf returns how many calls of a life may be the one before which a process is stopped.
func callsOf(k kind) int {
	a := &actor{process: newWorld(k).boot()}
	defer a.finish() // A paused run keeps its world in memory.
	return a.run(80)
}

// withOldCaches yields every way to stop a process that reads the user's Secret from a cache.
func withOldCaches(k kind) iter.Seq[stopped] {
	return func(yield func(stopped) bool) {
		for d := range duoTrials(k) {
			if d.stale = true; d.event != deletion && !yield(d) {
				return
			}
		}
	}
}

func TestAProcessThatContinuesAfterAnotherTookOverDoesNoHarm(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		trials iter.Seq[stopped]
		change func(*world)
		// some is how many are played in a sample; 0 for all.
		some int
	}{
		"where retirements are remembered":                    {trials: duoTrials(twoSlots)},
		"where changes of a login wait":                       {trials: duoTrials(twoSlots), change: func(w *world) { w.locks = true }},
		"a certificate":                                       {trials: duoTrials(certificate), some: sampled},
		"a certificate, with an old cache":                    {trials: withOldCaches(certificate), some: sampled},
		"a late issuer":                                       {trials: duoTrials(late), some: sampled},
		"a late issuer, with an old cache":                    {trials: withOldCaches(late), some: sampled},
		"a late issuer, whose candidate is read first":        {trials: duoTrials(late), change: readLedgerFirst, some: sampled},
		"a proven certificate":                                {trials: duoTrials(proven), some: sampled},
		"a proven certificate, with an old cache":             {trials: withOldCaches(proven), some: sampled},
		"a proven certificate, whose candidate is read first": {trials: duoTrials(proven), change: readLedgerFirst, some: sampled},
		"a minted key":                                        {trials: duoTrials(minted), some: sampled},
	}
	for _, k := range hostedKinds {
		tc := cases["a minted key"]
		tc.trials = duoTrials(k)
		cases[k.String()] = tc
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trials := slices.Collect(tc.trials)
			if tc.some > 0 {
				trials = size.Sample(size.RandomFrom(t, 1), trials, tc.some, stopped.class)
			}
			stopEverywhere(t, trials, tc.change)
		})
	}
}

// sampled is how many ways to stop a process are played of each kind that is not played whole.
const sampled = 400

// class is what a sample must have one of: an event with a fate.
func (d stopped) class() string { return fmt.Sprint(d.event, d.meanwhile, d.fate) }

func stopEverywhere(t *testing.T, trials []stopped, change func(*world)) {
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
	for _, d := range trials {
		work <- d
	}
	close(work)
	group.Wait()
	t.Logf("%d interleavings of two processes settled, %d did not", count-bad, bad)
	if count < min(len(trials), 1000)-80 {
		t.Errorf("only %d of %d interleavings were played: a life has fewer calls", count, len(trials))
	}
}

// readLedgerFirst makes the store read the ledger before the user's Secret.
func readLedgerFirst(w *world) { w.ledgerFirst = true }

// Where the ledger is the truth, the order matters. A certificate's Secret is the truth itself: either order will do.
func TestReadingTheLedgerBeforeTheSecretIsNoticed(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]kind{"a login": twoSlots, "a minted key": minted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for d := range duoTrials(k) {
				if _, err := d.play(nil, readLedgerFirst); err != nil {
					return
				}
			}
			t.Error("a store that reads the ledger first breaks no promise here: the simulation is blind to that race")
		})
	}
}
