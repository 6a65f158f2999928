// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/test/world"
)

// errOver is what a suspended process gets when the test ends.
var errOver = errors.New("the test is over")

// actor is one process and what it has seen.
type actor struct {
	play    *twoLeaders
	name    string
	process *world.Process
	options world.Options
	view    *view
	// lags: cached reads return an older state. seesOwn: but never one before its own last write.
	lags, seesOwn bool
	// suspended: its informers have seen nothing since it was suspended.
	suspended bool
	// before is the length of every kind's history when it was suspended.
	before map[string]int
	// calling is the running call, if that can change the database.
	calling string
	// broken is the fence that is removed, to verify that the tests detect its absence.
	broken string

	next func() (string, bool)
	halt func()
	stop func(string) bool
	// nextEffect is what it does when it continues; empty if it is not suspended.
	nextEffect string
	// dead is set when it will never continue.
	dead bool
}

// aheadOf is a clock that runs ahead.
type aheadOf struct {
	clock.PassiveClock

	by time.Duration
}

func (c aheadOf) Now() time.Time { return c.PassiveClock.Now().Add(c.by) }

func (c aheadOf) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// restart starts a new process: its memory is empty, and its informers may show less than those before it.
func (a *actor) restart() {
	a.abandon()
	options := a.options
	options.Racing, options.Lie = true, func(err error) { a.play.violation("%s: %v", a.name, err) }
	a.process = a.play.Start(a.name, options)
	a.process.Hook(a.hook)
	a.view = newView()
	if a.lags {
		for _, kind := range slices.Sorted(maps.Keys(a.play.history)) {
			a.view.seen[kind] = a.play.random.IntN(len(a.play.history[kind]) + 1)
		}
	}
}

// effect suspends before an effect until the scheduler lets it happen; it returns false if that never happens.
func (a *actor) effect(what string) bool {
	if a.stop == nil || a.dead {
		return !a.dead
	}
	a.nextEffect = what
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
		d.record(fmt.Sprintf("%s: cached %s: %s", a.name, r, outcome(err)))
		return err
	}
	if a.broken == brokenRead && r.Verb == "get" && a.staleRead(r) {
		d.record(fmt.Sprintf("%s: %s, stale", a.name, r))
		return nil
	}
	if a.broken == brokenSwap && r.Verb == "update" && r.Kind == "Secret" {
		r.Object.SetResourceVersion("")
	}
	err := do()
	d.record(fmt.Sprintf("%s: %s: %s", a.name, r, outcome(err)))
	if r.Writes() {
		d.noteConditions(r.Object)
		d.invariants.countWrite(a, r, err)
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

// begin starts a body that runs effect by effect.
func (a *actor) begin(body func()) {
	a.abandon()
	a.dead = false
	a.next, a.halt = iter.Pull(func(yield func(string) bool) {
		a.stop = yield
		body()
	})
	a.step()
}

// step lets the next effect happen and stops before the one after; it returns false if none is left.
func (a *actor) step() bool {
	_, more := a.next()
	if !more {
		a.next, a.stop, a.nextEffect = nil, nil, ""
	}
	a.play.invariants.checkLogins(a)
	a.play.invariants.checkPublished()
	return more
}

// isSuspended reports whether the process is suspended before an effect.
func (a *actor) isSuspended() bool { return a.next != nil }

// finish runs the body to its end.
func (a *actor) finish() {
	for a.isSuspended() {
		if !a.step() {
			return
		}
	}
}

// abandon drops the rest of the body.
func (a *actor) abandon() {
	if a.next != nil {
		a.halt()
	}
	a.next, a.stop, a.nextEffect, a.dead = nil, nil, "", false
}

// reconcile reconciles an object once.
func (a *actor) reconcile(o client.Object) ctrl.Result {
	d := a.play
	d.record(fmt.Sprintf("%s: -- reconcile %s %s", a.name, world.KindOf(o), o.GetName()))
	result, err := a.process.Reconcile(o)
	if a.dead {
		return result
	}
	if err != nil {
		d.violation("%s: reconciling %s %s returned an error, which nothing handles: %v", a.name, world.KindOf(o), o.GetName(), err)
	}
	if result.RequeueAfter > time.Hour || result.IsZero() && d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o)) != nil && !a.lags && !a.suspended &&
		d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o)).GetDeletionTimestamp() == nil {
		d.violation("%s: the next reconcile of %s %s is in %s; a deadline could be missed", a.name, world.KindOf(o), o.GetName(), result.RequeueAfter)
	}
	return result
}
