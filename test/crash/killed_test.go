// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
)

// scene is what the kills happen in.
type scene struct {
	place     place
	published *published
	busy      *busy
	clients   *clients
	lives     *lives
	// asked are the credentials that rotate only because somebody asks; identities likewise. Version of the database by name.
	asked      []string
	identities []string
	// hangUp ends the use of brief, before that goes.
	hangUp  func()
	servers map[string]int
	edited  string
	// scheduled is a credential and brief an identity that rotate by themselves; brief is nil when it is gone.
	scheduled *v1alpha1.DatabaseCredential
	brief     *v1alpha1.ClientIdentity
}

// stage makes the objects and lets everybody begin.
func stage(t *testing.T, dice *rand.Rand, name string, args ...string) *scene {
	t.Helper()
	p := newPlace(t, name)
	s := &scene{place: p, lives: newLives(t, p, args...), servers: map[string]int{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s.published = follow(ctx, t, p)
	t.Cleanup(func() {
		cancel()
		s.published.running.Wait()
		if s.published.err != nil {
			t.Error(s.published.err)
		}
	})
	s.busy = &busy{place: p, published: s.published, requests: map[string]int{}}
	s.busy.ctx, s.busy.stop = context.WithCancel(ctx)
	s.clients = startClients(ctx, s.published)
	t.Cleanup(func() { s.busy.stop(); s.busy.running.Wait(); s.clients.stop(); s.clients.running.Wait() })
	add := func(name string, version int, policy string) *v1alpha1.DatabaseCredential {
		object := p.credential(name, fmt.Sprintf("postgres-%d", version), policy)
		p.create(object)
		s.servers[name] = version
		s.clients.logIn(string(object.Spec.SecretName), dice)
		return object
	}
	for name, version := range map[string]int{"one": 15, "two": 18, "three": 18} {
		s.asked = append(s.asked, name)
		s.busy.work(300*time.Millisecond, s.busy.ask(add(name, version, "asked"), name+"-login", s.busy.honouredBy(name)))
	}
	slices.Sort(s.asked)
	s.scheduled = add("scheduled", 15, "scheduled")
	s.edited = "edited"
	s.busy.work(1300*time.Millisecond, s.busy.edit(add(s.edited, 15, "asked")))
	s.certificates(t, dice)
	s.busy.work(100*time.Millisecond, s.busy.guest)
	return s
}

// certificates makes the identities: two that are renewed when somebody asks, one whose certificate is short, and one that is
// suspended now and then.
func (s *scene) certificates(t *testing.T, dice *rand.Rand) {
	t.Helper()
	p := s.place
	caller, called := p.clientIdentity("caller", v1alpha1.AuthorityKindNamespaced, "peers"), p.serverIdentity("called", v1alpha1.AuthorityKindNamespaced, "peers")
	s.brief = p.clientIdentity("brief", v1alpha1.AuthorityKindNamespaced, "peers")
	s.brief.Spec.Lifetime.Duration = 2 * renewal
	renew := s.brief.Spec.Lifetime
	renew.Duration = renewal
	s.brief.Spec.RenewBefore = &renew
	p.create(caller)
	p.create(called)
	p.create(s.brief)
	doubted := p.clientIdentity("doubted", v1alpha1.AuthorityKindNamespaced, "peers")
	p.create(doubted)
	s.busy.work(500*time.Millisecond, s.busy.doubt(doubted))
	s.identities = []string{"called", "caller"}
	s.busy.work(500*time.Millisecond, s.busy.ask(caller, "caller-mtls", s.busy.honouredOn("caller-mtls")))
	s.busy.work(500*time.Millisecond, s.busy.ask(called, "called-mtls", s.busy.honouredOn("called-mtls")))
	s.clients.shake(t, "called-mtls", "caller-mtls", dice)
	s.hangUp = s.clients.shake(t, "called-mtls", "brief-mtls", dice)
}

// unschedule leaves nothing that becomes due by itself.
func (s *scene) unschedule(t *testing.T) {
	t.Helper()
	slow := map[string]any{"spec": map[string]any{"rotationPolicyRef": map[string]any{"name": "asked"}}}
	if err := merge(t.Context(), s.scheduled, slow); err != nil {
		t.Fatal(err)
	}
	s.hangUp()
	if err := env.kube.Delete(t.Context(), s.brief); err != nil {
		t.Fatal(err)
	}
	s.brief = nil
}

// tally is what became of one point.
type tally struct {
	kills, unreached, hits int
}

// killer kills.
type killer struct {
	*scene
	t       *testing.T
	dice    *rand.Rand
	tallies map[string]*tally
	random  int
	longest time.Duration // from a death to when everything was as it must be
	died    time.Time
}

// waitForPoint is how long a life may take to come to its point.
const waitForPoint = 20 * time.Second

// atPoint lets a life go on until it dies at the point, and tells whether it did.
func (k *killer) atPoint(point string) bool {
	k.t.Helper()
	name, _, _ := strings.Cut(point, "#")
	count := k.tallies[name]
	if strings.HasSuffix(name, discarded) {
		defer k.changeOfMind()()
	}
	victim := k.lives.start(point)
	select {
	case <-victim.ended:
	case <-time.After(waitForPoint):
		if err := victim.kill(); err != nil {
			k.t.Fatal(err)
		}
	}
	k.died = victim.at
	if victim.diedAtPoint() {
		if !victim.killed() {
			k.t.Errorf("the operator came to %q and ended otherwise than by SIGKILL: %s", point, victim.cmd.ProcessState)
		}
		count.kills++
		return true
	}
	count.unreached++
	k.random++ // it died all the same
	if victim.at.Sub(victim.started) < waitForPoint {
		k.t.Fatalf("the operator ended by itself (%s): %s", victim.cmd.ProcessState, victim.words())
	}
	return false
}

// atRandom kills a life at an instant that nobody chose.
func (k *killer) atRandom() {
	k.t.Helper()
	victim := k.lives.start("")
	wait := 100*time.Millisecond + time.Duration(k.dice.Int64N(int64(3*time.Second)))
	select {
	case <-victim.ended:
		k.t.Fatalf("the operator ended by itself (%s): %s", victim.cmd.ProcessState, victim.words())
	case <-time.After(wait):
	}
	if err := victim.kill(); err != nil {
		k.t.Fatal(err)
	}
	k.died = victim.at
	k.random++
}

// rest waits until nothing is left to do. The caller sees to it that nobody wants anything.
func (k *killer) rest(witness *life) {
	k.t.Helper()
	if err := k.busy.failed(); err != nil {
		k.t.Fatalf("%v\n%s", err, witness.words())
	}
	if err := await(k.t.Context(), patience, k.settled); err != nil {
		k.t.Fatalf("%v\n%s", err, witness.words())
	}
}

// look stops everybody, waits until nothing is left to do, and looks at everything. The life in which that happened is
// given back. If it is the last time, nobody wants anything afterwards.
func (k *killer) look(last bool) *life {
	k.t.Helper()
	witness := k.lives.start("")
	k.busy.gate.Lock() // waits until every wish is fulfilled
	defer k.busy.gate.Unlock()
	k.rest(witness)
	if !k.died.IsZero() {
		k.longest = max(k.longest, time.Since(k.died))
	}
	k.invariants(k.t)
	if last {
		k.busy.stop()
	}
	return witness
}

// plan says where to die: at every point if the size wants that, at some that the dice choose, and between them nowhere in
// particular (""). Where a point comes twice, the second death is at the second time that a life comes there, if it often does.
func (k *killer) plan(n size) []string {
	var out []string
	all := points()
	if n.every {
		out = slices.Clone(all)
	}
	for _, i := range k.dice.Perm(len(all))[:n.sample] {
		point := all[i]
		if n.every && often(point) {
			point += "#2"
		}
		out = append(out, point)
	}
	k.dice.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for range n.random {
		out = slices.Insert(out, k.dice.IntN(len(out)+1), "")
	}
	return out
}

func TestNobodyIsRefusedWhileTheOperatorDiesAtEveryPointAndAtRandom(t *testing.T) {
	n, dice := sizeOf(t), diceOf(t)
	prepare(t)
	begun := time.Now()
	k := &killer{scene: stage(t, dice, "crash"), t: t, dice: dice, tallies: map[string]*tally{}}
	for _, point := range points() {
		k.tallies[point] = &tally{}
	}
	if err := k.look(false).kill(); err != nil { // from nothing to a first version of everything, undisturbed
		t.Fatal(err)
	}
	k.died = time.Time{}
	t.Logf("%s until everything was made for the first time", time.Since(begun).Round(time.Second))
	killing := time.Now()
	plan := k.plan(n)
	for i := 0; i < len(plan); i++ {
		switch point := plan[i]; {
		case point == "":
			k.atRandom()
		case !k.atPoint(point):
			name, _, _ := strings.Cut(point, "#")
			if k.tallies[name].unreached < 4 {
				plan = append(plan, name) // another life
			}
		}
		if err := k.busy.failed(); err != nil {
			t.Fatalf("after %d deaths, the last one at %q: %v\n%s", i+1, plan[i], err, k.lives.all[len(k.lives.all)-1].words())
		}
		if i%n.between == n.between-1 {
			if err := k.look(false).kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(killing)
	k.end()
	k.report(took)
}

// end lets everybody finish, and looks at everything for the last time, also at what a restart does when nothing is due.
func (k *killer) end() {
	k.t.Helper()
	k.unschedule(k.t)
	last := k.look(true)
	if err := last.kill(); err != nil {
		k.t.Fatal(err)
	}
	k.clients.end(k.t)
	k.nothingOld(k.t)
	k.restartsWriteNothing(k.t)
	k.nothingSaid(k.t)
}

// report prints what was done, and complains of points that no life came to.
func (k *killer) report(took time.Duration) {
	k.t.Helper()
	known := map[string]*tally{}
	for _, life := range k.lives.all {
		for _, name := range life.passed() {
			if known[name] == nil {
				known[name] = &tally{}
			}
			known[name].hits++
		}
	}
	kills := k.random
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-58s %5s %9s %6s\n", "failpoint", "kills", "unreached", "hits")
	for _, name := range slices.Sorted(maps.Keys(k.tallies)) {
		one := k.tallies[name]
		if now := known[name]; now != nil {
			one.hits = now.hits
		}
		kills += one.kills
		fmt.Fprintf(&table, "%-58s %5d %9d %6d\n", name, one.kills, one.unreached, one.hits)
		if one.kills == 0 && one.unreached > 0 {
			k.t.Errorf("no life came to %q", name)
		}
	}
	fmt.Fprintf(&table, "%-58s %5d\n", "at no point in particular", k.random)
	k.t.Logf("%s\n%d deaths in %s; %d logins, %d handshakes, %d refused or failed, %d too late to tell; %d rotations asked for, %d edits, %d guests; "+
		"at the most %s from a death until everything was as it must be",
		table.String(), kills, took.Round(time.Second), k.clients.logins, k.clients.handshakes, len(k.clients.failures), k.clients.late,
		sum(k.busy.requests), k.busy.edits, k.busy.guests, k.longest.Round(100*time.Millisecond))
	unknown(k.t, slices.Collect(maps.Keys(known)))
	if n := sizeOf(k.t); n.every && kills < 200 {
		k.t.Errorf("only %d deaths", kills)
	}
	if k.clients.logins < kills || k.clients.handshakes < kills {
		k.t.Errorf("only %d logins and %d handshakes in %d deaths", k.clients.logins, k.clients.handshakes, kills)
	}
}

func sum(counts map[string]int) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	return total
}
