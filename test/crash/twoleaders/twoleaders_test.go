// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/world"
)

// errOver is what a process hears that stands still when the test ends.
var errOver = errors.New("the test is over")

// twoLeaders is a world with two processes in it, of which one at a time does one thing.
type twoLeaders struct {
	*world.World
	seed     uint64
	dice     *rand.Rand
	history  history
	database databaseServer
	actors   []*actor
	// objects that passes are made over.
	objects []client.Object
	watch   watch
	trace   []string
	begun   time.Time
	// bad is what must never be.
	bad []string
}

// actor is one process, and what it has seen.
type actor struct {
	play    *twoLeaders
	name    string
	process *world.Process
	options world.Options
	view    *view
	// lags: cached reads show an older state. seesOwn: but never one before its own last write.
	lags, seesOwn bool
	// still: its informers have seen nothing since it was stopped.
	still bool
	// before is how much had happened of every kind when it was stopped.
	before map[string]int
	// calling is the call by which it may change the database now.
	calling string
	// broken is a fence that is taken away, to see that it is missed.
	broken string

	next func() (string, bool)
	halt func()
	stop func(string) bool
	// about is what it will do when it goes on; empty where it stands nowhere.
	about string
	// dead is what it is when it will never go on.
	dead bool
}

// setup says how a play begins.
type setup struct {
	seed     uint64
	lags     bool
	seesOwn  bool
	broken   string
	database func(t *testing.T) databaseServer
	// skew is how far the clock of the second process is ahead.
	skew time.Duration
	// statements are effects, too, not only calls.
	statements bool
}

// hoursBefore is how long before now a play begins: its life is about two days long, and some words of the API server
// (when an object was deleted) carry the real time.
const hoursBefore = 80 * time.Hour

func newTwoLeaders(t *testing.T, s setup) *twoLeaders {
	t.Helper()
	d := &twoLeaders{begun: time.Now(), seed: s.seed, dice: rand.New(rand.NewPCG(s.seed, 11)), history: history{}}
	d.watch = newWatch(d)
	d.watch.ahead = s.skew
	if s.database == nil {
		d.World = world.New(t, nil)
		d.database = fakeDatabase{d.Fake}
	} else {
		d.database = s.database(t)
		d.World = world.New(t, d.database.engine(nil))
		d.database.ready(d)
	}
	d.Clock.SetTime(d.Clock.Now().Add(-hoursBefore))
	for i, name := range []string{"first", "second"} {
		a := &actor{play: d, name: name, lags: s.lags, seesOwn: s.seesOwn, broken: s.broken}
		a.options.Clock = d.Clock
		if i == 1 && s.skew != 0 {
			a.options.Clock, a.options.Ahead = aheadOf{d.Clock, s.skew}, -s.skew
		}
		inner := d.database.engine(nil)
		if s.statements {
			inner = d.database.engine(func(what string) { a.effect("statement " + what) })
		}
		a.options.Engine = watched{inner, a}
		d.actors = append(d.actors, a)
		a.restart()
	}
	t.Cleanup(func() { d.verdict(t) })
	return d
}

// aheadOf is a clock that is wrong.
type aheadOf struct {
	clock.PassiveClock

	by time.Duration
}

func (c aheadOf) Now() time.Time                  { return c.PassiveClock.Now().Add(c.by) }
func (c aheadOf) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// verdict says what was bad, and how it came about.
func (d *twoLeaders) verdict(t *testing.T) {
	t.Helper()
	for _, a := range d.actors {
		a.leave()
	}
	if file := os.Getenv("REKEY_TRACE"); file != "" {
		_ = os.WriteFile(file, []byte(strings.Join(d.trace, "\n")+"\n"), 0o600)
	}
	if len(d.bad) == 0 {
		return
	}
	const most = 120
	shown := d.trace
	if first := slices.IndexFunc(shown, func(line string) bool { return strings.Contains(line, " !!! ") }); first > most {
		shown = shown[first-most:]
	}
	t.Errorf("%s\nagain with: REKEY_SEED=%d go test ./test/crash/twoleaders -run '^%s$'\n(REKEY_TRACE names a file for all of it) what happened before:\n  %s",
		strings.Join(d.bad, "\n"), d.seed, strings.Split(t.Name(), "/")[0], strings.Join(shown[:min(len(shown), most+1)], "\n  "))
}

// blame notes what must never be.
func (d *twoLeaders) blame(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.note("!!! " + text)
	if len(d.bad) < 10 {
		d.bad = append(d.bad, text)
	}
}

func (d *twoLeaders) note(line string) {
	d.trace = append(d.trace, fmt.Sprintf("%6.3f %s", time.Since(d.begun).Seconds(), line))
}

// restart is a process that begins: its memory is empty, and its informers may show less than those before it.
func (a *actor) restart() {
	a.leave()
	options := a.options
	options.Racing, options.Lie = true, func(err error) { a.play.blame("%s: %v", a.name, err) }
	a.process = a.play.Start(a.name, options)
	a.process.Hook(a.hook)
	a.view = newView()
	if a.lags {
		for _, kind := range slices.Sorted(maps.Keys(a.play.history)) {
			a.view.seen[kind] = a.play.dice.IntN(len(a.play.history[kind]) + 1)
		}
	}
}

// effect stops before something is done, until the scheduler lets it happen; false where that will never be.
func (a *actor) effect(what string) bool {
	if a.stop == nil || a.dead {
		return !a.dead
	}
	a.about = what
	a.dead = !a.stop(what)
	return !a.dead
}

func (a *actor) hook(_ context.Context, r world.Request, do func() error) error {
	d := a.play
	what := r.String()
	if !r.Live && !r.Writes() {
		what = "cached " + what
	}
	if !a.effect(what) {
		return errOver
	}
	if !r.Live && !r.Writes() {
		err := a.cached(r)
		d.note(fmt.Sprintf("%s: cached %s: %s", a.name, r, outcome(err)))
		return err
	}
	if a.broken == brokenRead && r.Verb == "get" && a.old(r) {
		d.note(fmt.Sprintf("%s: %s, as it was before", a.name, r))
		return nil
	}
	if a.broken == brokenSwap && r.Verb == "update" && r.Kind == "Secret" {
		r.Object.SetResourceVersion("")
	}
	err := do()
	d.note(fmt.Sprintf("%s: %s: %s", a.name, r, outcome(err)))
	if r.Writes() {
		d.noteConditions(r.Object)
		d.watch.wrote(a, r, err)
		if err == nil {
			d.see(r.Verb, r.Object)
			a.view.own[r.Kind] = len(d.history[r.Kind])
		}
	}
	return err
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(apierrors.ReasonForError(err))
}

// see takes over what a write left.
func (d *twoLeaders) see(verb string, o client.Object) {
	gone := false
	if verb == "delete" {
		o = copyOf(o)
		err := d.Client.Get(d.Ctx, client.ObjectKeyFromObject(o), o)
		gone = apierrors.IsNotFound(err)
	}
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0 {
		gone = true
	}
	d.history.note(o, gone)
	d.watch.saw(o, gone)
}

// begin starts something that is done effect by effect.
func (a *actor) begin(body func()) {
	a.leave()
	a.dead = false
	a.next, a.halt = iter.Pull(func(yield func(string) bool) {
		a.stop = yield
		body()
	})
	a.step()
}

// step lets the next effect happen and stops before the one after; false where nothing is left.
func (a *actor) step() bool {
	_, more := a.next()
	if !more {
		a.next, a.stop, a.about = nil, nil, ""
	}
	a.play.watch.compare(a)
	a.play.watch.look()
	return more
}

// stands tells whether the process stands before an effect.
func (a *actor) stands() bool { return a.next != nil }

// finish goes on to the end of what was begun.
func (a *actor) finish() {
	for a.stands() {
		if !a.step() {
			return
		}
	}
}

// leave ends what was begun without doing it.
func (a *actor) leave() {
	if a.next != nil {
		a.halt()
	}
	a.next, a.stop, a.about, a.dead = nil, nil, "", false
}

// pass makes one pass over an object.
func (a *actor) pass(o client.Object) ctrl.Result {
	d := a.play
	d.note(fmt.Sprintf("%s: -- pass over %s %s", a.name, world.KindOf(o), o.GetName()))
	result, err := a.process.Pass(o)
	if a.dead {
		return result
	}
	if err != nil {
		d.blame("%s: a pass over %s %s gave an error, which nobody handles: %v", a.name, world.KindOf(o), o.GetName(), err)
	}
	if result.RequeueAfter > time.Hour || result.IsZero() && d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o)) != nil && !a.lags && !a.still &&
		d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o)).GetDeletionTimestamp() == nil {
		d.blame("%s: the next pass over %s %s is in %s; a deadline could be missed", a.name, world.KindOf(o), o.GetName(), result.RequeueAfter)
	}
	return result
}

// User's words.

func (d *twoLeaders) create(objects ...client.Object) {
	d.T.Helper()
	for _, o := range objects {
		d.note("user: create " + world.KindOf(o) + " " + o.GetName())
		o.SetResourceVersion("")
		o.SetUID("")
		d.Create(o)
		d.see("create", o)
	}
}

func (d *twoLeaders) edit(o client.Object, change func()) {
	d.T.Helper()
	d.note("user: edit " + world.KindOf(o) + " " + o.GetName())
	d.Edit(o, change)
	d.see("update", o)
}

func (d *twoLeaders) remove(o client.Object) {
	d.T.Helper()
	d.note("user: delete " + world.KindOf(o) + " " + o.GetName())
	d.watch.removed(o)
	d.Delete(o)
	d.see("delete", o)
}

// collect is the garbage collector: what belongs to an object that is gone goes.
func (d *twoLeaders) collect() {
	d.T.Helper()
	alive := map[string]bool{}
	for kind, changes := range d.history {
		for _, o := range d.history.all(kind, len(changes)) {
			alive[string(o.GetUID())] = true
		}
	}
	for _, kind := range []string{"Secret", "ConfigMap"} {
		for _, o := range d.history.all(kind, len(d.history[kind])) {
			if ref := metav1.GetControllerOf(o); ref != nil && !alive[string(ref.UID)] {
				d.note("garbage collector: delete " + kind + " " + o.GetName())
				err := d.Client.Delete(d.Ctx, copyOf(o), client.Preconditions{UID: new(o.GetUID())})
				if client.IgnoreNotFound(err) != nil {
					d.T.Fatal(err)
				}
				d.watch.removed(o)
				d.see("delete", o)
			}
		}
	}
}

// settle lets both processes, or those that are given, go on with fresh informers until nothing is left to do.
func (d *twoLeaders) settle(actors ...*actor) {
	d.T.Helper()
	if len(actors) == 0 {
		actors = d.actors
	}
	for _, a := range actors {
		defer func(lags bool) { a.lags = lags }(a.lags)
		a.lags = false
	}
	d.T.Helper()
	const rounds = 60
	for range rounds {
		d.note("-- a round of all")
		d.collect()
		before, wake := d.watch.effective, time.Duration(0)
		for _, o := range d.objects {
			for _, a := range actors {
				result := a.pass(o)
				d.watch.look()
				if after := result.RequeueAfter; after > 0 && (wake == 0 || after < wake) {
					wake = after
				}
				if result.RequeueAfter > 0 && result.RequeueAfter < time.Minute {
					d.note(fmt.Sprintf("%s looks again at %s %s after %s", a.name, world.KindOf(o), o.GetName(), result.RequeueAfter))
				}
			}
		}
		switch {
		case wake != 0 && wake < time.Minute:
			d.Step(max(wake, time.Second))
		case d.watch.effective == before:
			return
		}
	}
	d.blame("after %d rounds with fresh informers the processes still find something to do", rounds)
}

// secretNow gives the user's Secret as it is; nil where it is not there.
func (d *twoLeaders) secretNow(name string) *corev1.Secret {
	secret, _ := d.history.now("Secret", client.ObjectKey{Namespace: d.Namespace, Name: name}).(*corev1.Secret)
	return secret
}

// namespace gives that of the play.
func (d *twoLeaders) namespace() *corev1.Namespace {
	d.T.Helper()
	namespace := &corev1.Namespace{}
	if err := d.Client.Get(d.Ctx, client.ObjectKey{Name: d.Namespace}, namespace); err != nil {
		d.T.Fatal(err)
	}
	return namespace
}

// loginNow gives the credential as it is; nil where it is not there.
func (d *twoLeaders) loginNow() *v1alpha1.DatabaseCredential {
	login, _ := d.history.now("DatabaseCredential", client.ObjectKey{Namespace: d.Namespace, Name: "orders"}).(*v1alpha1.DatabaseCredential)
	return login
}
