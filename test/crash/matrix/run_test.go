// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/test/world"
)

const (
	// A login is proven some time after a start; everything else is due immediately. quietWait is longer than every wait for
	// unfinished work; the first proof after a start waits longest.
	quietWait = 6 * time.Minute
	// bound is how long anything may take by the test's clock, once the faults have stopped. If a server is unreachable, a
	// deleted object is released after ten minutes.
	bound = 15 * time.Minute
	// behind is how far a run's clock starts behind that of the API server, so that their times always differ: if one is
	// recorded instead of the other, there is always a difference to report.
	behind = 5 * time.Second
	// maxReconciles bounds the reconciles of one phase.
	maxReconciles = 40
)

// want is what must hold at the end of a phase.
type want struct {
	// revision is the current revision; previous is true if the one before it is still accepted.
	revision int64
	previous bool
	// gone is true if the object was deleted.
	gone bool
	// users is the number of users of a policy.
	users int32
	// anything skips the checks: the phase does everything itself.
	anything bool
}

// phase is one event in the life of an object, and its expected outcome.
type phase struct {
	happens func(*run)
	want    want
}

// life is a story of one object, from one quiet state to another.
type life struct {
	kind kind
	name string
	// begin creates what existed before the story, or is nil. It settles without faults.
	begin []phase
	// story is the part with faults.
	story []phase
	// beside marks a life beside the main ones of a kind: changes by a user behind rekey's back, or in the middle of something.
	beside bool
}

func (l life) String() string { return l.kind.name + ", " + l.name }

// run is one life in which some effects fail.
type run struct {
	*worker
	life   life
	id     string
	clock  *clocktesting.FakePassiveClock
	faulty *databasetest.Faulty
	*breaker
	process *world.Process
	// object is what the life is about. The logins of a database credential start with base.
	object client.Object
	base   string

	// published is true once the user's Secret has been seen. leaving is true once it may stop working.
	published, leaving bool
	// forgotten is true until a ledger that a user deleted is recreated.
	forgotten bool
	// refused is the result of the last login with the published credential. The login must work, unless another user changed
	// it at the server: then it must work from revision worksFrom on. 0 means always.
	refused   bool
	worksFrom int64
	// baseline holds the Events of the life without faults; nil while those are being recorded.
	baseline []string
	// prepare changes the object before it is created.
	prepare func(client.Object)

	seen struct {
		sync.Mutex
		// passwords by version and login, and certificates by version.
		passwords map[string]map[string]bool
		leaves    map[int64]map[string]bool
		secrets   map[string][]byte
		events    []string
		texts     map[string]string
		lies      []error
	}
}

// stop ends a run; play recovers it.
type stop struct{ err error }

var runs atomic.Int64

func (w *worker) newRun(of life) *run {
	r := &run{worker: w, life: of, id: fmt.Sprintf("r%d", runs.Add(1)), clock: clocktesting.NewFakePassiveClock(time.Now().UTC().Truncate(time.Second).Add(-behind))}
	r.base = "m" + r.id
	r.seen.passwords, r.seen.leaves = map[string]map[string]bool{}, map[int64]map[string]bool{}
	r.seen.secrets, r.seen.texts = map[string][]byte{"the admin's password": []byte(adminPassword)}, map[string]string{}
	r.breaker = &breaker{label: r.label, stored: r.stored}
	r.faulty = databasetest.NewFaulty(&observedEngine{w.engine, r})
	r.faulty.Choose, r.faulty.Done, r.faulty.Patience = r.call, r.called, patience
	r.object = of.kind.object(r)
	return r
}

// start discards the process and starts another.
func (r *run) start() {
	r.revive()
	r.process = r.Start("rekey", world.Options{Clock: r.clock, Engine: r.faulty, Recorder: r, Lie: r.lied})
	r.process.Hook(r.request)
}

// must ends the run if something fails that is not under test.
func (r *run) must(err error) {
	if err != nil {
		panic(stop{err})
	}
}

// fail ends the run because an invariant does not hold.
func (r *run) fail(class, format string, args ...any) {
	panic(stop{fmt.Errorf(class+": "+format, args...)})
}

// play plays the life with these orders, and returns its effects.
func (r *run) play(orders ...order) (effects []effect, err error) {
	defer func() {
		if caught := recover(); caught != nil {
			stopped, ok := caught.(stop)
			if !ok {
				panic(caught)
			}
			effects, err = r.effects, stopped.err
		}
	}()
	defer r.life.kind.clean(r)
	r.start()
	for _, p := range r.life.begin {
		r.phase(p)
	}
	r.seen.events = nil
	r.orders = orders
	r.start()
	r.number(true)
	for _, p := range r.life.story {
		r.phase(p)
	}
	r.number(false)
	r.atRest()
	if r.hits != len(orders) {
		r.must(fmt.Errorf("%w: %d of %d were met in %d steps", errUnmet, r.hits, len(orders), len(r.effects)))
	}
	return r.effects, nil
}

// phase lets an event happen and reconciles until the object is quiet.
func (r *run) phase(p phase) {
	if p.happens != nil {
		p.happens(r)
	}
	if p.want.anything {
		return
	}
	since, quiet := r.clock.Now(), 0
	missing := ""
	for range maxReconciles {
		wait, changes, err := r.reconcile()
		if missing = r.missing(p.want); missing == "" && changes == 0 && err == nil {
			quiet++
			if quiet > 1 || wait > quietWait || !r.life.kind.database {
				return
			}
		} else {
			quiet = 0
		}
		if wait <= quietWait || changes == 0 {
			r.clock.SetTime(r.clock.Now().Add(wait))
		}
		if missing != "" && r.clock.Now().Sub(since) > bound {
			break
		}
	}
	if missing == "" {
		missing = "everything is as it should be, but every reconcile still changes something"
	}
	class := "I8"
	if p.want.gone {
		class = "I9"
	}
	r.fail(class, "it did not settle within %d reconciles or %s: %s", maxReconciles, bound, missing)
}

// reconcile reconciles once, and checks what must always hold.
func (r *run) reconcile() (wait time.Duration, changes int, err error) {
	r.process.Skew.Set(0)
	met := r.hits
	result, err := r.process.Reconcile(r.object)
	changes, fated := r.takeOutcome()
	if err != nil {
		r.say("an error of a reconcile", err.Error())
	}
	if lies := r.lies(r.hits > met); lies != nil {
		r.fail("T4", "%v", lies)
	}
	if fated == dies || fated == restarts {
		// The next process continues.
		r.start()
		changes++
	}
	if changes > 0 {
		r.life.kind.always(r)
	}
	wait = result.RequeueAfter
	switch {
	case err != nil || fated != "":
		wait = min(max(wait, 0), time.Second)
	case result.IsZero():
		wait = time.Hour
	}
	return wait, changes, err
}

// diesAfter reconciles until a call of the engine has had its effect; the process dies there.
func (r *run) diesAfter(call string) {
	choose := r.faulty.Choose
	defer func() { r.faulty.Choose = choose }()
	died := false
	r.faulty.Choose = func(name string) sourcetest.Mode {
		if name == call && !died {
			died, r.dying = true, true
			return sourcetest.FailAfter
		}
		return choose(name)
	}
	for range maxReconciles {
		if _, err := r.process.Reconcile(r.object); died || err != nil {
			break
		}
	}
	if !died {
		r.fail("machinery", "%s was never called", call)
	}
	r.start()
}

// missing returns what is not yet as it must be at the end of a phase.
func (r *run) missing(w want) string {
	err := r.Client.Get(r.Ctx, client.ObjectKeyFromObject(r.object), r.object)
	if w.gone {
		if apierrors.IsNotFound(err) {
			return ""
		}
		return "the object still exists"
	}
	if err != nil {
		return err.Error()
	}
	if text := notReady(r.object); text != "" {
		return text
	}
	return r.life.kind.reached(r, w)
}

// atRest checks what must hold in the end.
func (r *run) atRest() {
	last := r.life.story[len(r.life.story)-1].want
	r.life.kind.always(r)
	r.life.kind.finally(r, last)
	emitted := len(r.seen.events)
	for _, who := range []string{"another process", "the same process"} {
		if who == "another process" {
			r.start()
			r.takeOutcome()
		}
		r.process.Skew.Set(0)
		if _, err := r.process.Reconcile(r.object); err != nil {
			r.fail("I8", "a reconcile of %s with nothing to do failed: %v", who, err)
		}
		if changes, _ := r.takeOutcome(); changes > 0 {
			r.fail("I4", "with nothing to do, %s changed something %d times", who, changes)
		}
	}
	if len(r.seen.events) > emitted {
		r.fail("I4", "with nothing to do, Events were emitted: %q", r.seen.events[emitted:])
	}
	if text := r.missing(last); text != "" {
		r.fail("I8", "after it had settled: %s", text)
	}
	r.checkEvents()
	r.checkNoLeaks()
}

// stored records what a write stored in the API server.
func (r *run) stored(request world.Request) {
	secret := isSecret(request)
	if secret == nil || request.Verb == "delete" {
		return
	}
	r.seen.Lock()
	defer r.seen.Unlock()
	for _, key := range []string{credential.KeyPassword, credential.KeyPrivateKey} {
		if value := secret.Data[key]; len(value) > 0 {
			r.seen.secrets[fmt.Sprintf("%s number %d", key, len(r.seen.secrets))] = slices.Clone(value)
		}
	}
	if leaf := secret.Data[credential.KeyCertificate]; len(leaf) > 0 {
		seq := revisionOf(secret)
		if r.seen.leaves[seq] == nil {
			r.seen.leaves[seq] = map[string]bool{}
		}
		r.seen.leaves[seq][string(leaf)] = true
	}
}

// create creates an object like a user.
func (r *run) create(o client.Object) {
	r.must(r.worker.create(o))
}

// edit changes the object like a user.
func (r *run) edit(change func()) {
	r.must(r.Client.Get(r.Ctx, client.ObjectKeyFromObject(r.object), r.object))
	change()
	r.must(r.Client.Update(r.Ctx, r.object))
}

// secret reads a Secret, or returns nil if it does not exist.
func (r *run) secret(name string) *corev1.Secret {
	var out corev1.Secret
	err := r.Client.Get(r.Ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, &out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	r.must(err)
	return &out
}
