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
	"github.com/rekey/rekey/test/size"
)

// scene is the environment in which the operator is killed.
type scene struct {
	place     place
	published *published
	workload  *workload
	clients   *clients
	lives     *lives
	// onRequest and identities are the names of the credentials and identities that rotate only on request.
	onRequest  []string
	identities []string
	// hangUp stops the use of brief before brief is deleted.
	hangUp  func()
	servers map[string]int
	edited  string
	// scheduled is a credential and brief an identity that rotate on their own; brief is nil once it is deleted.
	scheduled *v1alpha1.DatabaseCredential
	brief     *v1alpha1.ClientIdentity
}

// newScene creates the objects and starts the workload.
func newScene(t *testing.T, random *rand.Rand, name string, args ...string) *scene {
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
	s.workload = &workload{place: p, published: s.published, requests: map[string]int{}}
	s.workload.ctx, s.workload.stop = context.WithCancel(ctx)
	s.clients = startClients(ctx, s.published)
	t.Cleanup(func() { s.workload.stop(); s.workload.running.Wait(); s.clients.stop(); s.clients.running.Wait() })
	add := func(name string, version int, policy string) *v1alpha1.DatabaseCredential {
		object := p.credential(name, fmt.Sprintf("postgres-%d", version), policy)
		p.create(object)
		s.servers[name] = version
		s.clients.logIn(string(object.Spec.SecretName), random)
		return object
	}
	for name, version := range map[string]int{"one": 15, "two": 18, "three": 18} {
		s.onRequest = append(s.onRequest, name)
		s.workload.repeat(300*time.Millisecond, s.workload.requestRotation(add(name, version, "on-request"), name+"-login", s.workload.honoredInLedger(name)))
	}
	slices.Sort(s.onRequest)
	s.scheduled = add("scheduled", 15, "scheduled")
	s.edited = "edited"
	s.workload.repeat(1300*time.Millisecond, s.workload.edit(add(s.edited, 15, "on-request")))
	s.createIdentities(t, random)
	s.workload.repeat(100*time.Millisecond, s.workload.guest)
	return s
}

// createIdentities creates two identities that are renewed on request, one whose certificate is short-lived, and one that is
// suspended now and then.
func (s *scene) createIdentities(t *testing.T, random *rand.Rand) {
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
	paused := p.clientIdentity("paused", v1alpha1.AuthorityKindNamespaced, "peers")
	p.create(paused)
	s.workload.repeat(500*time.Millisecond, s.workload.toggleSuspend(paused))
	s.identities = []string{"called", "caller"}
	s.workload.repeat(500*time.Millisecond, s.workload.requestRotation(caller, "caller-mtls", s.workload.honoredInSecret("caller-mtls")))
	s.workload.repeat(500*time.Millisecond, s.workload.requestRotation(called, "called-mtls", s.workload.honoredInSecret("called-mtls")))
	s.clients.startHandshakes(t, "called-mtls", "caller-mtls", random)
	s.hangUp = s.clients.startHandshakes(t, "called-mtls", "brief-mtls", random)
}

// stopSchedules ensures that nothing becomes due on its own.
func (s *scene) stopSchedules(t *testing.T) {
	t.Helper()
	slow := map[string]any{"spec": map[string]any{"rotationPolicyRef": map[string]any{"name": "on-request"}}}
	if err := merge(t.Context(), s.scheduled, slow); err != nil {
		t.Fatal(err)
	}
	s.hangUp()
	if err := env.kube.Delete(t.Context(), s.brief); err != nil {
		t.Fatal(err)
	}
	s.brief = nil
}

// tally counts the outcomes of one point.
type tally struct {
	kills, unreached, hits int
}

// killer kills the operator.
type killer struct {
	*scene
	t           *testing.T
	random      *rand.Rand
	tallies     map[string]*tally
	randomKills int
	longest     time.Duration // from a kill until everything was settled
	died        time.Time
}

// waitForPoint bounds how long a life can take to reach its point.
const waitForPoint = 20 * time.Second

// atPoint runs a life until it dies at the point, and reports whether it did.
func (k *killer) atPoint(point string) bool {
	k.t.Helper()
	name, _, _ := strings.Cut(point, "#")
	count := k.tallies[name]
	if strings.HasSuffix(name, discarded) {
		defer k.editAfterStaging()()
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
			k.t.Errorf("the operator reached %q, but was not stopped by SIGKILL: %s", point, victim.cmd.ProcessState)
		}
		count.kills++
		return true
	}
	count.unreached++
	k.randomKills++ // it was killed anyway
	if victim.at.Sub(victim.started) < waitForPoint {
		k.t.Fatalf("the operator exited on its own (%s): %s", victim.cmd.ProcessState, victim.lastOutput())
	}
	return false
}

// atRandom kills a life at a random instant.
func (k *killer) atRandom() {
	k.t.Helper()
	victim := k.lives.start("")
	wait := 100*time.Millisecond + time.Duration(k.random.Int64N(int64(3*time.Second)))
	select {
	case <-victim.ended:
		k.t.Fatalf("the operator exited on its own (%s): %s", victim.cmd.ProcessState, victim.lastOutput())
	case <-time.After(wait):
	}
	if err := victim.kill(); err != nil {
		k.t.Fatal(err)
	}
	k.died = victim.at
	k.randomKills++
}

// settle waits until nothing is left to do. The caller must have paused the workload.
func (k *killer) settle(witness *life) {
	k.t.Helper()
	if err := k.workload.failed(); err != nil {
		k.t.Fatalf("%v\n%s", err, witness.lastOutput())
	}
	if err := await(k.t.Context(), patience, k.settled); err != nil {
		k.t.Fatalf("%v\n%s", err, witness.lastOutput())
	}
}

// checkAll pauses the workload, waits until nothing is left to do, and checks everything. It returns the life in which it did
// so. If this is the last check, it also stops the workload.
func (k *killer) checkAll(last bool) *life {
	k.t.Helper()
	witness := k.lives.start("")
	k.workload.gate.Lock() // waits until every user has finished
	defer k.workload.gate.Unlock()
	k.settle(witness)
	if !k.died.IsZero() {
		k.longest = max(k.longest, time.Since(k.died))
	}
	k.checkInvariants(k.t)
	if last {
		k.workload.stop()
	}
	return witness
}

// plan returns the points at which to die: every point if the extent includes that, a random sample, and in between random
// instants (""). If a point is planned twice, the second kill is at its second occurrence in a life, if it is frequent.
func (k *killer) plan(n extent) []string {
	var out []string
	all := points()
	if n.every {
		out = slices.Clone(all)
	}
	for _, i := range k.random.Perm(len(all))[:n.sample] {
		point := all[i]
		if n.every && isFrequent(point) {
			point += "#2"
		}
		out = append(out, point)
	}
	k.random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for range n.randomKills {
		out = slices.Insert(out, k.random.IntN(len(out)+1), "")
	}
	return out
}

func TestNoClientIsRejectedWhileTheOperatorIsKilled(t *testing.T) {
	n, random := extentOf(), size.Random(t, 3)
	prepare(t)
	started := time.Now()
	k := &killer{scene: newScene(t, random, "crash"), t: t, random: random, tallies: map[string]*tally{}}
	for _, point := range points() {
		k.tallies[point] = &tally{}
	}
	if err := k.checkAll(false).kill(); err != nil { // the first issue of everything, undisturbed
		t.Fatal(err)
	}
	k.died = time.Time{}
	t.Logf("%s until the first version of everything was issued", time.Since(started).Round(time.Second))
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
		if err := k.workload.failed(); err != nil {
			t.Fatalf("after %d kills, the last one at %q: %v\n%s", i+1, plan[i], err, k.lives.all[len(k.lives.all)-1].lastOutput())
		}
		if i%n.between == n.between-1 {
			if err := k.checkAll(false).kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(killing)
	k.end()
	k.report(took)
}

// end stops the workload and runs the final checks, including what a restart does when nothing is due.
func (k *killer) end() {
	k.t.Helper()
	k.stopSchedules(k.t)
	last := k.checkAll(true)
	if err := last.kill(); err != nil {
		k.t.Fatal(err)
	}
	k.clients.end(k.t)
	k.checkOldCredentialsRejected(k.t)
	k.checkRestartsWriteNothing(k.t)
	k.checkNoLeaks(k.t)
}

// report logs the results, and fails for points that no life reached.
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
	kills := k.randomKills
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
			k.t.Errorf("no life reached %q", name)
		}
	}
	fmt.Fprintf(&table, "%-58s %5d\n", "at random instants", k.randomKills)
	k.t.Logf("%s\n%d kills in %s; %d logins, %d handshakes, %d rejected or failed, %d inconclusive; %d rotations requested, %d edits, %d guests; "+
		"at most %s from a kill until everything was settled",
		table.String(), kills, took.Round(time.Second), k.clients.logins, k.clients.handshakes, len(k.clients.failures), k.clients.late,
		sum(k.workload.requests), k.workload.edits, k.workload.guests, k.longest.Round(100*time.Millisecond))
	checkKnown(k.t, slices.Collect(maps.Keys(known)))
	if n := extentOf(); n.every && kills < 200 {
		k.t.Errorf("only %d kills", kills)
	}
	if k.clients.logins < kills || k.clients.handshakes < kills {
		k.t.Errorf("only %d logins and %d handshakes in %d kills", k.clients.logins, k.clients.handshakes, kills)
	}
}

func sum(counts map[string]int) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	return total
}
