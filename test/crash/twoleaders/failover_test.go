// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/size"
)

// A process can be suspended for any time between any two requests (a paused machine, a stopped process, a long garbage
// collection) while another process takes over, and then continue with stale knowledge. No lease prevents that.

// meanwhile is what happens while the first process is suspended; the second process carries it out.
type meanwhile struct {
	name string
	do   func(d *twoLeaders)
}

func settleSecond(d *twoLeaders) { d.settle(d.actors[1]) }

func meanwhiles(policy v1alpha1.DeletionPolicy) []meanwhile {
	wait := func(by time.Duration) func(d *twoLeaders) {
		return func(d *twoLeaders) {
			settleSecond(d)
			d.advance(by)
			settleSecond(d)
		}
	}
	gone := func(d *twoLeaders) bool {
		login, identity := d.playObjects()
		return (login == nil || d.loginNow() == nil) && (identity == nil || d.history.now("ClientIdentity", client.ObjectKeyFromObject(identity)) == nil)
	}
	return []meanwhile{
		{"the second process runs to the end", settleSecond},
		{"the second process retires the previous version", wait(overlapped)},
		{"the second process rotates once more, into the free slot", func(d *twoLeaders) {
			wait(day)(d)
			wait(overlapped)(d)
		}},
		{"the objects are deleted", func(d *twoLeaders) {
			if !gone(d) {
				d.deleteAll()
			}
			settleSecond(d)
		}},
		{"the objects are deleted and recreated", func(d *twoLeaders) {
			if !gone(d) {
				d.deleteAll()
			}
			settleSecond(d)
			life(policy)[0].do(d)
			settleSecond(d)
		}},
		{"the spec is edited", func(d *twoLeaders) {
			login, identity := d.playObjects()
			if gone(d) {
				return
			}
			if login != nil {
				d.edit(login, func() { login.Spec.Password.Length = 48 })
			}
			if identity != nil {
				d.edit(identity, func() { identity.Spec.DNSNames = []v1alpha1.DNSName{"other.example.internal"} })
			}
			settleSecond(d)
		}},
	}
}

// failover is one play: how far the life goes, before which effect the first process is suspended, and what happens meanwhile.
type failover struct {
	kind      string
	policy    v1alpha1.DeletionPolicy
	phase     int
	effect    int
	meanwhile int
	// only, if set, is the prefix of the effects that count.
	only string
}

// createObjects creates the objects of a play.
func (d *twoLeaders) createObjects(kind string) {
	switch kind {
	case "DatabaseCredential":
		d.surroundings()
		login := &v1alpha1.DatabaseCredential{}
		d.fillLogin(login, v1alpha1.DeletionRetain)
		d.objects = []client.Object{login}
	case "ClientIdentity":
		authority, identity := anAuthority(), anIdentity()
		identity.Namespace = d.Namespace
		d.create(aPolicy(), authority)
		d.objects = []client.Object{authority, identity}
	}
}

// play starts with the setup base and returns false if the phase has fewer effects.
func (f failover) play(t *testing.T, base setup) bool {
	t.Helper()
	_, played := f.run(t, base)
	return played
}

func (f failover) run(t *testing.T, base setup) (*twoLeaders, bool) {
	t.Helper()
	d := newTwoLeaders(t, base)
	events := life(f.policy)
	first := d.actors[0]
	d.createObjects(f.kind)
	for _, e := range events[:f.phase] {
		d.record("===== " + e.name)
		e.do(d)
		d.settle(first)
	}
	e := events[f.phase]
	d.record("===== " + e.name)
	e.do(d)
	d.collect()
	first.begin(func() {
		for range 3 {
			for _, o := range d.objects {
				if !first.dead {
					first.reconcile(o)
				}
			}
		}
	})
	for n := 0; ; first.step() {
		switch {
		case !first.isSuspended():
			return d, false
		case strings.HasPrefix(first.nextEffect, "cached ") || !strings.HasPrefix(first.nextEffect, f.only):
			continue // a cached read is not an effect
		}
		if n++; n > f.effect {
			break
		}
	}
	meanwhile := meanwhiles(f.policy)[f.meanwhile]
	d.record(fmt.Sprintf("----- the first process is suspended before: %s; meanwhile %s", first.nextEffect, meanwhile.name))
	first.suspended, first.before = true, d.history.lengths()
	meanwhile.do(d)
	d.record("----- the first process continues")
	first.finish()
	first.suspended, first.before = false, nil
	d.settle()
	d.checkSettled()
	d.checkRestartsWriteNothing()
	return d, true
}

// failovers plays every effect of every phase. Each effect meets one of the things that can happen meanwhile, in turn, starting
// with a different one in each run. The deletion policy matters only from the deletion on, so earlier phases are played with
// one policy only.
func failovers(t *testing.T, base setup, kind string, policy v1alpha1.DeletionPolicy) {
	t.Helper()
	started, count, turn := time.Now(), make(chan int, 100), size.Seed()
	t.Run("phase", func(t *testing.T) {
		for phase, e := range life(policy) {
			if policy == v1alpha1.DeletionRetain && e.name != "deletion" && e.name != "recreation" {
				continue
			}
			t.Run(strings.ReplaceAll(e.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				count <- everyEffect(t, base, failover{kind: kind, policy: policy, phase: phase}, turn)
			})
		}
	})
	close(count)
	total := 0
	for n := range count {
		total += n
	}
	t.Logf("%s with deletion policy %s: suspended at %d effects in %s", kind, policy, total, time.Since(started).Round(100*time.Millisecond))
}

var all = flag.Bool("all", false, "play every effect with everything that can happen meanwhile, instead of one thing in turn")

func everyEffect(t *testing.T, base setup, f failover, turn uint64) int {
	t.Helper()
	many, each, played := len(meanwhiles(f.policy)), 1, 0
	if *all {
		each = many
	}
	for more := true; more; f.effect++ {
		for i := range each {
			f.meanwhile = (int(turn%uint64(many)) + f.effect + f.phase + i) % many
			t.Run(fmt.Sprintf("effect-%d-%d", f.effect, f.meanwhile), func(t *testing.T) { more = f.play(t, base) })
			if !more {
				return played
			}
			played++
		}
	}
	return played
}

func TestAnOldLeaderDoesNotHarmACredential(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		failovers(t, setup{}, "DatabaseCredential", policy)
	}
}

func TestAnOldLeaderDoesNotHarmACertificate(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		failovers(t, setup{}, "ClientIdentity", policy)
	}
}
