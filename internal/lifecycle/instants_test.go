// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/test/size"
)

// instant is something that users do, or that happens to a cluster, at any moment.
type instant struct {
	do func(*world)
	// after is the number of effects until then is called.
	then  func(*world)
	after int
	// until is when the world must have settled afterwards; 0 for the end of the stretch.
	until time.Duration
}

func (i instant) at(effect int) map[int]func(*world) {
	acts := map[int]func(*world){effect: i.do}
	if i.then != nil {
		acts[effect+i.after] = i.then
	}
	return acts
}

func deletes(policyDelete bool) func(*world) {
	return func(w *world) {
		w.spec.deleting, w.spec.delete, w.spec.deletedAt, w.stirred = true, policyDelete, w.now, true
	}
}

var instantsOfLife = map[string]instant{
	"the spec is edited":                       {do: func(w *world) { w.spec.fingerprint = "v2" }},
	"the spec is edited and soon edited back":  {do: func(w *world) { w.spec.fingerprint = "v2" }, then: func(w *world) { w.spec.fingerprint = "v1" }, after: 2},
	"the spec is edited and later edited back": {do: func(w *world) { w.spec.fingerprint = "v2" }, then: func(w *world) { w.spec.fingerprint = "v1" }, after: 5},
	"a rotation is requested":                  {do: func(w *world) { w.spec.rotate = "now" }},
	"a rotation is requested, twice":           {do: func(w *world) { w.spec.rotate = "now" }, then: func(w *world) { w.spec.rotate = "again" }, after: 3},
	"a retirement is requested":                {do: func(w *world) { w.spec.retirePrevious, w.watch.noOverlap = "now", true }},
	"both are requested":                       {do: func(w *world) { w.spec.rotate, w.spec.retirePrevious, w.watch.noOverlap = "now", "now", true }},
	"it is suspended for hours": {do: func(w *world) {
		w.spec.suspended = true
		w.after(3*time.Hour, "resumed", func(w *world) { w.spec.suspended = false })
	}},
	"it belongs to another owner, which hands it over": {do: func(w *world) {
		w.spec.former = "elsewhere/web/orders"
		for _, l := range w.slots {
			if l.exists {
				l.owner = w.spec.former
			}
		}
	}},
	"it is deleted with all it created":         {do: deletes(true)},
	"it is deleted and its logins are retained": {do: deletes(false)},
	"the Secret is deleted":                     {do: func(w *world) { w.secret = object{} }},
	"the Secret is edited":                      {do: func(w *world) { w.lastVersion++; w.secret = object{version: w.lastVersion} }},
	"the Secret belongs to another owner for hours": {do: func(w *world) {
		w.lastVersion++
		w.secret, w.watch.foreign = object{version: w.lastVersion, foreign: true}, true
		w.after(3*time.Hour, "freed", func(w *world) { w.secret = object{} })
	}},
	"the remote system is down for an hour":        {do: func(w *world) { w.upAt = w.now.Add(time.Hour) }},
	"the remote system is down and it is deleted":  {do: func(w *world) { w.upAt = w.now.Add(time.Hour); deletes(true)(w) }},
	"the remote system is restored, a little back": {do: restoreRemote(4), until: day},
	"the remote system is restored, far back":      {do: restoreRemote(11), until: day},
	"the cluster is restored, a little back":       {do: restoreCluster(4), until: day},
	"the cluster is restored, far back":            {do: restoreCluster(11), until: day},
	"the cluster is restored, very far back":       {do: restoreCluster(16), until: day},
	"the candidate is refused":                     {do: func(w *world) { w.refuses[w.ledger.ledger.LastSeq+1], w.refuseNext = true, 1 }},
	"two candidates in a row are refused": {do: func(w *world) {
		w.refuses[w.ledger.ledger.LastSeq+1], w.refuses[w.ledger.ledger.LastSeq+2], w.refuseNext = true, true, 2
	}},
}

const day = 24 * time.Hour

// deaths are the fates that go with every instant of life.
var deaths = []fate{dieBefore, dieAfter, dieInside, lateAnswer}

// after schedules something.
func (w *world) after(d time.Duration, what string, do func(*world)) {
	w.script = append(w.script, event{at: w.now.Sub(start) + d, what: what, do: do})
}

func (w *world) before(effects int) past { return w.history[max(len(w.history)-1-effects, 0)] }

// restoreRemote restores the remote system to its state some effects ago.
func restoreRemote(effects int) func(*world) {
	return func(w *world) {
		w.watch.restored = true
		then := w.before(effects)
		for slot, l := range then.slots {
			*w.slots[slot] = l
		}
		w.keys, w.orders = slices.Clone(then.keys), maps.Clone(then.orders)
		if then.restoreHost != nil {
			then.restoreHost()
		}
	}
}

// restoreCluster restores the ledger and the Secret to their state some effects ago.
func restoreCluster(effects int) func(*world) {
	return func(w *world) {
		w.watch.restored = true
		then := w.before(effects)
		w.ledger, w.secret = then.ledger, then.secret
		for _, o := range []*object{&w.ledger, &w.secret} {
			if o.version != 0 {
				w.lastVersion++
				o.version = w.lastVersion
			}
		}
	}
}

func TestEveryInstantOfLifeWithEveryCrashSettles(t *testing.T) {
	t.Parallel()
	for name, in := range instantsOfLife {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenario{until: 9 * time.Hour, setup: func(w *world) { w.keepsPast = in.until > 0 }}
			effects := s.calm(t)
			s.until = max(s.until, in.until)
			count := s.sweep(t, func(yield func(trial) bool) {
				for k := 1; k <= effects; k++ {
					instants := in.at(k)
					if !yield(trial{name: fmt.Sprintf("%s at effect %d", name, k), instants: instants}) {
						return
					}
					stopped := false
					singles(max(1, k-3), effects+8, deaths, instants, fmt.Sprintf("%s at effect %d,", name, k))(func(tr trial) bool {
						stopped = !yield(tr)
						return !stopped
					})
					if stopped {
						return
					}
				}
			})
			t.Logf("%d effects; %d instants and crashes settled", effects, count)
		})
	}
}

// moments are all instants, at times that do not depend on what the process is doing.
func moments(yield func(name string, s scenario) bool) {
	for name, in := range instantsOfLife {
		for at := 10 * time.Minute; at < 9*time.Hour; at += 25 * time.Minute {
			s := scenario{
				until:  max(13*time.Hour, in.until),
				setup:  func(w *world) { w.keepsPast = in.until > 0 },
				script: []event{{at: at, what: name, do: in.do}},
			}
			if in.then != nil {
				s.script = append(s.script, event{at: at + 40*time.Minute, what: "then", do: in.then})
			}
			if !yield(fmt.Sprintf("%s after %s", name, at), s) {
				return
			}
		}
	}
}

func TestEveryMomentOfLifeSettles(t *testing.T) {
	t.Parallel()
	count := 0
	for name, s := range moments {
		for _, locks := range []bool{false, true} {
			count++
			change := func(w *world) { w.locks = locks }
			if _, err := s.run(nil, nil, change); err != nil {
				t.Errorf("%s: %v\n%s", name, err, s.story(nil, nil, change))
				return
			}
		}
	}
	t.Logf("%d moments settled", count)
}

// refuseCurrent makes the remote system refuse what is published from now on.
func refuseCurrent(w *world) {
	w.watch.restored = true
	current := w.ledger.ledger.Current
	if w.certificates() {
		current = w.secret.ledger.Current
	}
	if current == nil {
		return
	}
	w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(k key) bool { return k.secret == current.Material.String(credential.KeyPassword) })
	if w.host != nil {
		_ = w.host.source.Retire(background, credential.Change{Ref: credential.Ref{Seq: current.Seq, Slot: current.Slot}, Material: current.Material})
	}
	if id := current.Material.String(credential.KeyCertificate); id != "" {
		now := w.orders[id]
		now.refused = true
		w.orders[id] = now
	}
}

// instantsOfAnIssuer happen to certificates alone.
var instantsOfAnIssuer = map[string]instant{
	"the next request is denied":          {do: func(w *world) { w.denyNext = 1 }},
	"the next two requests are denied":    {do: func(w *world) { w.denyNext = 2 }},
	"one is denied, the next has a fault": {do: func(w *world) { w.denyNext, w.refuseNext = 1, 2 }},
	"the machine sleeps for a day":        {do: func(w *world) { w.now = w.now.Add(day) }, until: 2 * day},
}

const refusedFromNowOn = "what is published is refused from now on"

// instantsOf returns the instants of life that a kind can have: a credential without a ledger cannot be handed over.
func instantsOf(k kind) map[string]instant {
	all := map[string]instant{refusedFromNowOn: {do: refuseCurrent, until: day}}
	for name, in := range instantsOfLife {
		if k == twoSlots || name != "it belongs to another owner, which hands it over" {
			all[name] = in
		}
	}
	for name, in := range instantsOfAnIssuer {
		if k == late || k == proven && in.until == 0 {
			all[name] = in
		}
	}
	if k == twoSlots || !traitsOf[k].Provable {
		delete(all, refusedFromNowOn) // nothing notices it, or a login is restored
	}
	return all
}

func TestEveryInstantOfLifeOfEveryKindSettles(t *testing.T) {
	t.Parallel()
	for _, k := range append([]kind{late, proven, minted}, hostedKinds...) {
		for name, in := range instantsOf(k) {
			t.Run(k.String()+", "+name, func(t *testing.T) {
				t.Parallel()
				s := scenario{kind: k, until: 9 * time.Hour, setup: func(w *world) { w.keepsPast = in.until > 0 }}
				effects := s.calm(t)
				s.until = max(s.until, in.until)
				count := s.sweep(t, s.sampled(t, size.Choose(50, 100, math.MaxInt), instantTrials(name, in, effects)))
				t.Logf("%d effects; %d instants and crashes settled", effects, count)
			})
		}
	}
}

// instantTrials yields an instant at every effect, alone and with every death nearby.
func instantTrials(name string, in instant, effects int) iter.Seq[trial] {
	return func(yield func(trial) bool) {
		for i := 1; i <= effects; i++ {
			at := in.at(i)
			if !yield(trial{name: fmt.Sprintf("%s at effect %d", name, i), instants: at}) {
				return
			}
			for tr := range singles(max(1, i-1), i+4, deaths, at, fmt.Sprintf("%s at effect %d,", name, i)) {
				if !yield(tr) {
					return
				}
			}
		}
	}
}
