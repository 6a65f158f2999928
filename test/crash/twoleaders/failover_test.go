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
)

// A process can stand still for any time between any two words with the outside (a paused machine, a stopped process, a
// long collection of garbage), while another one takes over, and then go on with what it knew. No lease prevents that.

// meanwhile is what happens while the first process stands still; the second one sees to it.
type meanwhile struct {
	name string
	do   func(d *twoLeaders)
}

func second(d *twoLeaders) { d.settle(d.actors[1]) }

func meanwhiles(policy v1alpha1.DeletionPolicy) []meanwhile {
	wait := func(by time.Duration) func(d *twoLeaders) {
		return func(d *twoLeaders) {
			second(d)
			d.later(by)
			second(d)
		}
	}
	gone := func(d *twoLeaders) bool {
		login, identity := d.held()
		return (login == nil || d.loginNow() == nil) && (identity == nil || d.history.now("ClientIdentity", client.ObjectKeyFromObject(identity)) == nil)
	}
	return []meanwhile{
		{"the second one goes on to the end", second},
		{"the second one retires what may go", wait(overlapped)},
		{"the second one rotates once more, into the slot that was free", func(d *twoLeaders) {
			wait(day)(d)
			wait(overlapped)(d)
		}},
		{"the objects are deleted", func(d *twoLeaders) {
			if !gone(d) {
				d.deleteAll()
			}
			second(d)
		}},
		{"the objects are deleted and made again", func(d *twoLeaders) {
			if !gone(d) {
				d.deleteAll()
			}
			second(d)
			life(policy)[0].do(d)
			second(d)
		}},
		{"the spec is edited", func(d *twoLeaders) {
			login, identity := d.held()
			if gone(d) {
				return
			}
			if login != nil {
				d.edit(login, func() { login.Spec.Password.Length = 48 })
			}
			if identity != nil {
				d.edit(identity, func() { identity.Spec.DNSNames = []v1alpha1.DNSName{"other.example.internal"} })
			}
			second(d)
		}},
	}
}

// failover is one play: how far the life goes, before which effect the first process is stopped, and what happens meanwhile.
type failover struct {
	kind   string
	policy v1alpha1.DeletionPolicy
	phase  int
	effect int
	while  int
	// only effects whose words begin so, where given.
	only string
}

// cast puts the objects of a play on the stage.
func (d *twoLeaders) cast(kind string) {
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

// play gives false where the phase has fewer effects. base is the setup that it begins with.
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
	d.cast(f.kind)
	for _, e := range events[:f.phase] {
		d.note("===== " + e.name)
		e.do(d)
		d.settle(first)
	}
	e := events[f.phase]
	d.note("===== " + e.name)
	e.do(d)
	d.collect()
	first.begin(func() {
		for range 3 {
			for _, o := range d.objects {
				if !first.dead {
					first.pass(o)
				}
			}
		}
	})
	for n := 0; ; first.step() {
		switch {
		case !first.stands():
			return d, false
		case strings.HasPrefix(first.about, "cached ") || !strings.HasPrefix(first.about, f.only):
			continue // a read of its own memory is no effect
		}
		if n++; n > f.effect {
			break
		}
	}
	while := meanwhiles(f.policy)[f.while]
	d.note(fmt.Sprintf("----- the first one stands still before: %s; meanwhile %s", first.about, while.name))
	first.still, first.before = true, d.history.lengths()
	while.do(d)
	d.note("----- the first one goes on")
	first.finish()
	first.still, first.before = false, nil
	d.settle()
	d.rest()
	d.quiet()
	return d, true
}

// failovers plays every effect of every phase, each with one of the things that may happen meanwhile: in turn, from one on that
// is another in each run. What the deletion policy says matters from the deletion on: what comes before is played with one policy.
func failovers(t *testing.T, base setup, kind string, policy v1alpha1.DeletionPolicy) {
	t.Helper()
	begun, count, turn := time.Now(), make(chan int, 100), fresh(t)
	t.Run("phase", func(t *testing.T) {
		for phase, e := range life(policy) {
			if policy == v1alpha1.DeletionRetain && e.name != "deletion" && e.name != "creation anew" {
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
	t.Logf("%s with deletion policy %s: stopped at %d places in %s", kind, policy, total, time.Since(begun).Round(100*time.Millisecond))
}

var all = flag.Bool("all", false, "play every effect with everything that may happen meanwhile, not with one thing in turn")

func everyEffect(t *testing.T, base setup, f failover, turn uint64) int {
	t.Helper()
	many, each, played := len(meanwhiles(f.policy)), 1, 0
	if *all {
		each = many
	}
	for more := true; more; f.effect++ {
		for i := range each {
			f.while = (int(turn%uint64(many)) + f.effect + f.phase + i) % many
			t.Run(fmt.Sprintf("effect-%d-%d", f.effect, f.while), func(t *testing.T) { more = f.play(t, base) })
			if !more {
				return played
			}
			played++
		}
	}
	return played
}

func TestAnOldLeaderDoesNoHarmToACredential(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		failovers(t, setup{}, "DatabaseCredential", policy)
	}
}

func TestAnOldLeaderDoesNoHarmToACertificate(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		failovers(t, setup{}, "ClientIdentity", policy)
	}
}
