// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/test/world"
)

// fault is a way in which an effect fails.
type fault string

const (
	// before: it fails without an effect.
	before fault = "before"
	// after: it has its effect, but returns an error.
	after fault = "after"
	// lost: it has its effect, but does not return before the deadline.
	lost fault = "lost"
	// conflict: it is rejected because another writer was first.
	conflict fault = "conflict"
	// timeout: it has no effect, and does not return before the deadline.
	timeout fault = "timeout"
)

// fate is what happens to the process.
type fate string

const (
	// dies: nothing that it does afterwards has an effect.
	dies fate = "dies"
	// restarts: it finishes its reconcile, then another process continues.
	restarts fate = "restarts"
	// lives: it continues, with its memory.
	lives fate = "lives"
)

// sort is the sort of an effect. An effect that changes nothing cannot fail after it changed something.
type sort int

const (
	reads sort = iota
	writes
	creates
	calls
)

// order makes one effect fail.
type order struct {
	step  int
	fault fault
	fate  fate
	// exists turns the conflict of a create into "already exists".
	exists bool
	// chance picks a fault that fits if none is given.
	chance int
}

func (o order) String() string {
	text := fmt.Sprintf("%d/%s/%s", o.step, o.fault, o.fate)
	if o.exists {
		text += "/exists"
	}
	return text
}

// waysToFail returns all the ways in which an effect can fail. Each fault occurs with a process that loses its memory, at once or
// after its reconcile, and with one that lives on and remembers. Indistinguishable ways are listed once: a process that dies
// never sees the response, so it dies once after each effect; dying before an effect, or at a read, is the same as dying after
// the previous effect.
func waysToFail(step int, of sort) []order {
	way := func(f fault, fates ...fate) []order {
		var out []order
		for _, then := range fates {
			out = append(out, order{step: step, fault: f, fate: then})
		}
		return out
	}
	if of == reads {
		return append(way(before, restarts, lives), way(timeout, restarts, lives)...)
	}
	out := slices.Concat(way(before, restarts, lives), way(after, dies, restarts, lives), way(lost, restarts, lives), way(timeout, restarts, lives))
	if of == calls {
		return out
	}
	out = append(out, way(conflict, restarts, lives)...)
	if of == creates {
		for _, o := range way(conflict, restarts, lives) {
			o.exists = true
			out = append(out, o)
		}
	}
	return out
}

// effect is one step of a life.
type effect struct {
	name string
	sort sort
}

var (
	errDead  = errors.New("the process is dead")
	errUnmet = errors.New("machinery: the life ended before a fault")
)

// breaker numbers the effects of one run and makes the ordered ones fail.
type breaker struct {
	// label names a request without anything that differs between runs.
	label func(world.Request) string
	// stored runs after every write that had its effect.
	stored func(world.Request)
	// swallow makes a write succeed without an effect: an injected defect.
	swallow func(world.Request) bool

	mu      sync.Mutex
	on      bool
	effects []effect
	orders  []order
	dead    bool
	// dying is true during a call after which the process is dead.
	dying bool
	// fated is the fate that the failed effects of this reconcile bring; hits counts the executed orders.
	fated fate
	hits  int
	// changes counts requests and calls that intend to change something.
	changes int
}

// next numbers an effect and returns the order for it.
func (b *breaker) next(e effect) (order, bool) {
	if !b.on {
		return order{}, false
	}
	b.effects = append(b.effects, e)
	for i, o := range b.orders {
		if o.step != len(b.effects) {
			continue
		}
		if o.fault == "" {
			fitting := waysToFail(o.step, e.sort)
			o = fitting[o.chance%len(fitting)]
			b.orders[i] = o
		}
		b.hits++
		// Of two faults in one reconcile, the later one does not cancel the fate of the earlier one.
		if b.fated != dies && (b.fated != restarts || o.fate == dies) {
			b.fated = o.fate
		}
		return o, true
	}
	return order{}, false
}

// request is the hook between a process and the API server.
func (b *breaker) request(_ context.Context, r world.Request, do func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return errDead
	}
	e := effect{name: b.label(r)}
	switch {
	case r.Verb == "create":
		e.sort = creates
	case r.Writes():
		e.sort = writes
	}
	if r.Writes() {
		b.changes++
	}
	really := func() error {
		if b.swallow != nil && b.swallow(r) {
			return nil
		}
		err := do()
		if err == nil && r.Writes() && b.stored != nil {
			b.stored(r)
		}
		return err
	}
	o, ordered := b.next(e)
	if !ordered {
		return really()
	}
	b.dead = o.fate == dies
	return inject(o, r, really)
}

// inject executes an order on a request. A response that did not arrive is not in the object either.
func inject(o order, r world.Request, do func() error) error {
	broken := fmt.Errorf("%s: read tcp: %w", r.Verb, syscall.ECONNRESET)
	silent := fmt.Errorf("%s: %w", r.Verb, context.DeadlineExceeded)
	switch o.fault {
	case before:
		if o.step%2 == 0 {
			return fmt.Errorf("%s: dial tcp: %w", r.Verb, syscall.ECONNREFUSED)
		}
		answer := apierrors.NewInternalError(errors.New("injected by the test"))
		answer.ErrStatus.Code = http.StatusInternalServerError
		return answer
	case timeout:
		return silent
	case conflict:
		resource := schema.GroupResource{Resource: r.Kind}
		if o.exists {
			return apierrors.NewAlreadyExists(resource, r.Name)
		}
		return apierrors.NewConflict(resource, r.Name, errors.New("injected by the test"))
	case after, lost:
	}
	sent := r.Object.DeepCopyObject()
	if err := do(); err != nil {
		return err
	}
	reflect.ValueOf(r.Object).Elem().Set(reflect.ValueOf(sent).Elem())
	if o.fault == after {
		return broken
	}
	return silent
}

// call runs before every call of an engine.
func (b *breaker) call(name string) sourcetest.Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return sourcetest.FailBefore
	}
	if changing(name) {
		b.changes++
	}
	o, ordered := b.next(effect{name: "call " + name, sort: calls})
	if !ordered {
		return 0
	}
	if o.fate == dies {
		// A call can query the API server before it has its effect.
		b.dead, b.dying = o.fault == before, o.fault != before
	}
	return map[fault]sourcetest.Mode{before: sourcetest.FailBefore, after: sourcetest.FailAfter, lost: sourcetest.LoseAnswer,
		timeout: sourcetest.Hang}[o.fault]
}

// called runs after a failed call has finished.
func (b *breaker) called(string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.dying = b.dead || b.dying, false
}

// changing reports whether a call intends to change something at the server.
func changing(call string) bool { return call == "Stage" || call == "Retire" || call == "Remove" }

// number starts or stops the numbering of effects.
func (b *breaker) number(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = on
}

// takeOutcome returns what has happened since the last call: the number of changes, and the fate from a failed effect.
func (b *breaker) takeOutcome() (changes int, fated fate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changes, fated = b.changes, b.fated
	b.changes, b.fated = 0, ""
	return changes, fated
}

// revive lets the next process have effects.
func (b *breaker) revive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = false
}

// patience is how long the test waits for a lost response of an engine.
const patience = time.Millisecond

// isSecret returns the Secret that a request writes, or nil if it writes another kind.
func isSecret(r world.Request) *corev1.Secret {
	secret, _ := r.Object.(*corev1.Secret)
	return secret
}
