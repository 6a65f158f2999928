// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/size"
)

// scenario is a stretch of life: a world, what users do in it and when, and how many versions are published by its end.
type scenario struct {
	kind  kind
	setup func(*world)
	// script happens at times since the start.
	script []event
	// until is when the stretch ends; after that, the world settles.
	until time.Duration
	// publications by the end; 0 if that depends on the instant.
	publications int
	// orders is how many different requests an issuer has had by the end; 0 if that depends on the instant.
	orders int
}

// TestMain makes the collector of garbage run less often: the simulation keeps little, and a quarter of its time was collection.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

type event struct {
	at   time.Duration
	what string
	do   func(*world)
}

const (
	// maxReconciles bounds how often a world is reconciled before it rests. A stretch of hours with hourly probes needs few.
	maxReconciles = 400
	// restReconciles bounds how often a world is reconciled after its last event until nothing changes.
	restReconciles = 60
)

// run plays the scenario with these fates and instants, and returns the first broken promise.
func (s scenario) run(plan map[int]fate, instants map[int]func(*world), change func(*world)) (w *world, err error) {
	w = newWorld(s.kind)
	w.plan, w.instants = plan, instants
	if s.setup != nil {
		s.setup(w)
	}
	if change != nil {
		change(w)
	}
	defer func() {
		if r := recover(); r != nil {
			if w.rows == nil && w.swap == nil {
				panic(r)
			}
			err = fmt.Errorf("panic: %v", r) // a damaged table may panic, which counts as noticed
		}
	}()
	s.play(w)
	return w, w.watch.broken
}

func (s scenario) play(w *world) {
	p := w.boot()
	w.script = slices.Clone(s.script)
	for range maxReconciles {
		for len(w.script) > 0 && !w.now.Before(start.Add(w.script[0].at)) {
			w.say("* %s", w.script[0].what)
			w.script[0].do(w)
			w.script = w.script[1:]
		}
		out, died := w.reconcile(p)
		switch {
		case w.watch.broken != nil:
			return
		case died:
			p = w.restart()
			continue
		case out.Withdrawn:
			w.land(true)
			w.watch.remains = out.Remains != ""
			w.watch.withdrawn(w)
			return
		case len(w.script) == 0 && !w.now.Before(start.Add(s.until)):
			s.rest(w, p)
			return
		}
		wake := out.WakeAt()
		if len(w.script) > 0 && start.Add(w.script[0].at).Before(wake) {
			wake = start.Add(w.script[0].at)
		}
		if end := start.Add(s.until); len(w.script) == 0 && end.Before(wake) {
			wake = end
		}
		w.sleep(wake)
	}
	w.watch.breach(w, "I8: it did not end within %d reconciles", maxReconciles)
}

// restart takes a while, unless an effect is still under way at the death: that must happen while the next process watches.
func (w *world) restart() *process {
	if len(w.late) == 0 {
		w.sleep(w.now.Add(downTime))
	}
	return w.boot()
}

func (w *world) reconcile(p *process) (lifecycle.Outcome, bool) {
	out, died := p.reconcile(w.spec)
	if w.trace != nil {
		w.narrate(out, died)
	}
	return out, died
}

// sleep until an instant, never backwards.
func (w *world) sleep(until time.Time) {
	if w.stirred {
		until, w.stirred = w.now, false
	}
	if !until.After(w.now) {
		until = w.now.Add(time.Millisecond)
	}
	if len(w.late) > 0 && until.Sub(w.now) > lateMost {
		w.now = w.now.Add(lateMost)
		w.land(true)
	}
	if until.After(w.now) {
		w.now = until
	}
	w.watch.look(w)
}

// rest lets the world settle, then restarts the process: with nothing due, nothing at all may be written.
func (s scenario) rest(w *world, p *process) {
	for range restReconciles {
		out, died := w.reconcile(p)
		l := w.ledger.ledger
		switch {
		case w.watch.broken != nil:
			return
		case died:
			p = w.restart()
			continue
		case out.Withdrawn:
			w.watch.remains = out.Remains != ""
			w.watch.withdrawn(w)
			return
		case out.Err == nil && !out.Conflict && l.Pending == nil && l.Previous == nil && len(w.late) == 0 && !wrote(out):
			w.atRest(s)
			return
		}
		w.sleep(out.WakeAt())
	}
	w.watch.breach(w, "I8: it did not come to rest within %d reconciles", restReconciles)
}

func wrote(out lifecycle.Outcome) bool {
	return slices.ContainsFunc(out.Performed, func(s rotation.Step) bool { return s != rotation.StepProbe })
}

func (w *world) atRest(s scenario) {
	if w.spec.deleting {
		w.watch.breach(w, "I9: the deleted object is still there")
		return
	}
	w.watch.settled(w)
	if got := w.watch.publications(); s.publications != 0 && got != s.publications {
		w.watch.breach(w, "%d versions were published, and %d should have been", got, s.publications)
	}
	if got := len(w.orders); s.orders != 0 && got != s.orders {
		w.watch.breach(w, "the issuer had %d different requests, and %d should have sufficed", got, s.orders)
	}
	before := w.writes
	w.plan = nil
	out, _ := w.reconcile(w.boot())
	if w.writes != before || wrote(out) {
		w.watch.breach(w, "I4: a restart with nothing due wrote %d times: %v", w.writes-before, out.Performed)
	}
	if !out.WakeAt().After(w.now) {
		w.watch.breach(w, "WakeAt is not in the future")
	}
}

// calm plays without any fate and returns the number of effects.
func (s scenario) calm(t *testing.T) int {
	t.Helper()
	w, err := s.run(nil, nil, nil)
	if err != nil {
		t.Fatalf("without any crash: %v\n%s", err, s.story(nil, nil, nil))
	}
	return w.effects
}

// story plays the scenario again and returns its transcript.
func (s scenario) story(plan map[int]fate, instants map[int]func(*world), change func(*world)) string {
	text := &strings.Builder{}
	_, _ = s.run(plan, instants, func(w *world) {
		w.trace = text
		if change != nil {
			change(w)
		}
	})
	return text.String()
}

// trial is one run of a sweep.
type trial struct {
	name     string
	plan     map[int]fate
	instants map[int]func(*world)
}

// sweep plays many trials on every core, and reports the first few that break a promise, each as a story.
func (s scenario) sweep(t *testing.T, trials func(yield func(trial) bool)) int {
	t.Helper()
	var count atomic.Int64
	var mu sync.Mutex
	var bad []trial
	var errs []error
	work := make(chan trial, 256)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for tr := range work {
				count.Add(1)
				if _, err := s.run(tr.plan, tr.instants, nil); err != nil {
					mu.Lock()
					bad, errs = append(bad, tr), append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	trials(func(tr trial) bool {
		work <- tr
		mu.Lock()
		defer mu.Unlock()
		return len(bad) < 3
	})
	close(work)
	group.Wait()
	for i, tr := range bad[:min(len(bad), 3)] {
		t.Errorf("%s: %v\n%s", tr.name, errs[i], s.story(tr.plan, tr.instants, nil))
	}
	return int(count.Load())
}

// singles yields all fates of the effects in a range.
func singles(from, effects int, of []fate, instants map[int]func(*world), name string) func(func(trial) bool) {
	return func(yield func(trial) bool) {
		for i := from; i <= effects; i++ {
			for _, f := range of {
				if !yield(trial{name: fmt.Sprintf("%s %s effect %d", name, f, i), plan: map[int]fate{i: f}, instants: instants}) {
					return
				}
			}
		}
	}
}

// doubles yields all pairs of fates of all pairs of effects. A first crash adds effects, and the second may hit those.
func doubles(effects int, of []fate, name string) func(func(trial) bool) {
	return func(yield func(trial) bool) {
		for i := 1; i <= effects; i++ {
			for j := i + 1; j <= effects+6; j++ {
				for _, f := range of {
					for _, g := range of {
						tr := trial{name: fmt.Sprintf("%s %s effect %d and %s effect %d", name, f, i, g, j), plan: map[int]fate{i: f, j: g}}
						if !yield(tr) {
							return
						}
					}
				}
			}
		}
	}
}

var (
	rotationScenario    = scenario{until: 7*time.Hour + 30*time.Minute, publications: 2}
	lockingScenario     = scenario{until: 7*time.Hour + 30*time.Minute, publications: 2, setup: func(w *world) { w.locks = true }}
	swiftScenario       = scenario{until: 7 * time.Hour, publications: 2, setup: func(w *world) { w.policy.Overlap = 0 }}
	certificateScenario = scenario{kind: certificate, until: 7 * time.Hour, publications: 2}
	lateScenario        = scenario{kind: late, until: 7 * time.Hour, publications: 2, orders: 2}
	provenScenario      = scenario{kind: proven, until: 7 * time.Hour, publications: 2, orders: 2}
	mintedScenario      = scenario{kind: minted, until: 7*time.Hour + 30*time.Minute, publications: 2}
)

func TestEveryCrashOfARotationSettles(t *testing.T) {
	t.Parallel()
	cases := map[string]scenario{
		"a password, from nothing to the first retired one": rotationScenario,
		"a password, where changes of a login wait":         lockingScenario,
		"a password without an overlap":                     swiftScenario,
		"a certificate, from nothing to the second one":     certificateScenario,
		"a certificate whose issuer answers late":           lateScenario,
		"a certificate that is proven where it is used":     provenScenario,
		"a key that the remote system makes":                mintedScenario,
	}
	for _, k := range hostedKinds {
		cases[k.String()] = scenario{kind: k, until: 7*time.Hour + 30*time.Minute, publications: 2}
	}
	for name, s := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			effects := s.calm(t)
			one := s.sweep(t, singles(1, effects, fates, nil, ""))
			two := s.sweep(t, s.sampled(t, size.Choose(500, 1500, math.MaxInt), doubles(effects, fates, "")))
			t.Logf("%d effects; %d single and %d double crashes settled", effects, one, two)
		})
	}
}
