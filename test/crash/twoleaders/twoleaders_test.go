// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/world"
)

// twoLeaders is a world with two processes, of which only one runs at a time.
type twoLeaders struct {
	*world.World
	seed     uint64
	random   *rand.Rand
	history  history
	database databaseServer
	actors   []*actor
	// objects are reconciled.
	objects    []client.Object
	invariants invariants
	trace      []string
	started    time.Time
	// violations lists what must never happen.
	violations []string
}

// setup describes how a play starts.
type setup struct {
	seed     uint64
	lags     bool
	seesOwn  bool
	broken   string
	database func(t *testing.T) databaseServer
	// skew is how far the clock of the second process is ahead.
	skew time.Duration
	// statements makes SQL statements effects, not only calls.
	statements bool
}

// hoursBefore is how long before now a play starts: a life takes about two days, and some timestamps of the API server (such as
// the deletion time) are real.
const hoursBefore = 80 * time.Hour

func newTwoLeaders(t *testing.T, s setup) *twoLeaders {
	t.Helper()
	d := &twoLeaders{started: time.Now(), seed: s.seed, random: rand.New(rand.NewPCG(s.seed, 11)), history: history{}}
	d.invariants = newInvariants(d)
	d.invariants.ahead = s.skew
	if s.database == nil {
		d.World = world.New(t, nil)
		d.database = fakeDatabase{d.Fake}
	} else {
		d.database = s.database(t)
		d.World = world.New(t, d.database.engine(nil))
		d.database.prepare(d)
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
		a.options.Engine = observedEngine{inner, a}
		d.actors = append(d.actors, a)
		a.restart()
	}
	t.Cleanup(func() { d.verdict(t) })
	return d
}

// verdict reports the violations and the events that led to them.
func (d *twoLeaders) verdict(t *testing.T) {
	t.Helper()
	for _, a := range d.actors {
		a.abandon()
	}
	if file := os.Getenv("REKEY_TRACE"); file != "" {
		_ = os.WriteFile(file, []byte(strings.Join(d.trace, "\n")+"\n"), 0o600)
	}
	if len(d.violations) == 0 {
		return
	}
	const most = 120
	shown := d.trace
	if first := slices.IndexFunc(shown, func(line string) bool { return strings.Contains(line, " !!! ") }); first > most {
		shown = shown[first-most:]
	}
	t.Errorf("%s\nreplay with: REKEY_SEED=%d go test ./test/crash/twoleaders -run '^%s$'\n(REKEY_TRACE names a file for the whole trace) events before it:\n  %s",
		strings.Join(d.violations, "\n"), d.seed, strings.Split(t.Name(), "/")[0], strings.Join(shown[:min(len(shown), most+1)], "\n  "))
}

// violation records what must never happen.
func (d *twoLeaders) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.record("!!! " + text)
	if len(d.violations) < 10 {
		d.violations = append(d.violations, text)
	}
}

func (d *twoLeaders) record(line string) {
	d.trace = append(d.trace, fmt.Sprintf("%6.3f %s", time.Since(d.started).Seconds(), line))
}

// see records the result of a write.
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
	d.history.record(o, gone)
	d.invariants.recordSecret(o, gone)
}

// Actions of the user.

func (d *twoLeaders) create(objects ...client.Object) {
	d.T.Helper()
	for _, o := range objects {
		d.record("user: create " + world.KindOf(o) + " " + o.GetName())
		o.SetResourceVersion("")
		o.SetUID("")
		d.Create(o)
		d.see("create", o)
	}
}

func (d *twoLeaders) edit(o client.Object, change func()) {
	d.T.Helper()
	d.record("user: edit " + world.KindOf(o) + " " + o.GetName())
	d.Edit(o, change)
	d.see("update", o)
}

func (d *twoLeaders) remove(o client.Object) {
	d.T.Helper()
	d.record("user: delete " + world.KindOf(o) + " " + o.GetName())
	d.invariants.excuse(o)
	d.Delete(o)
	d.see("delete", o)
}

// collect is the garbage collector: it deletes the dependents of deleted objects.
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
				d.record("garbage collector: delete " + kind + " " + o.GetName())
				err := d.Client.Delete(d.Ctx, copyOf(o), client.Preconditions{UID: new(o.GetUID())})
				if client.IgnoreNotFound(err) != nil {
					d.T.Fatal(err)
				}
				d.invariants.excuse(o)
				d.see("delete", o)
			}
		}
	}
}

// settle lets both processes, or the given ones, reconcile with up-to-date informers until nothing is left to do.
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
		d.record("-- every process reconciles everything")
		d.collect()
		before, wake := d.invariants.effective, time.Duration(0)
		for _, o := range d.objects {
			for _, a := range actors {
				result := a.reconcile(o)
				d.invariants.checkPublished()
				if after := result.RequeueAfter; after > 0 && (wake == 0 || after < wake) {
					wake = after
				}
				if result.RequeueAfter > 0 && result.RequeueAfter < time.Minute {
					d.record(fmt.Sprintf("%s requeues %s %s after %s", a.name, world.KindOf(o), o.GetName(), result.RequeueAfter))
				}
			}
		}
		switch {
		case wake != 0 && wake < time.Minute:
			d.Step(max(wake, time.Second))
		case d.invariants.effective == before:
			return
		}
	}
	d.violation("after %d rounds with up-to-date informers the processes still find something to do", rounds)
}

// secretNow returns the user's current Secret, or nil if it does not exist.
func (d *twoLeaders) secretNow(name string) *corev1.Secret {
	secret, _ := d.history.now("Secret", client.ObjectKey{Namespace: d.Namespace, Name: name}).(*corev1.Secret)
	return secret
}

// namespace returns the namespace of the play.
func (d *twoLeaders) namespace() *corev1.Namespace {
	d.T.Helper()
	namespace := &corev1.Namespace{}
	if err := d.Client.Get(d.Ctx, client.ObjectKey{Name: d.Namespace}, namespace); err != nil {
		d.T.Fatal(err)
	}
	return namespace
}

// loginNow returns the current credential, or nil if it does not exist.
func (d *twoLeaders) loginNow() *v1alpha1.DatabaseCredential {
	login, _ := d.history.now("DatabaseCredential", client.ObjectKey{Namespace: d.Namespace, Name: "orders"}).(*v1alpha1.DatabaseCredential)
	return login
}
