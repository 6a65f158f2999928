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

	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/test/world"
)

// fault is a way in which an effect can be spoiled.
type fault string

const (
	// before: it fails and has no effect.
	before fault = "before"
	// after: it has its effect, and an error is the answer.
	after fault = "after"
	// lost: it has its effect, and no answer comes until the deadline.
	lost fault = "lost"
	// conflict: it is refused, because somebody else wrote first.
	conflict fault = "conflict"
	// timeout: no answer comes until the deadline, and it has no effect.
	timeout fault = "timeout"
)

// fate is what becomes of the process.
type fate string

const (
	// dies: nothing that it does afterwards has an effect.
	dies fate = "dies"
	// restarts: it comes to the end of its pass, then another one goes on.
	restarts fate = "restarts"
	// lives: it goes on, with what it remembers.
	lives fate = "lives"
)

// sort of an effect. Something that changes nothing cannot fail after it changed something.
type sort int

const (
	reads sort = iota
	writes
	creates
	calls
)

// order spoils one effect.
type order struct {
	step  int
	fault fault
	fate  fate
	// exists makes the conflict of a create "already exists".
	exists bool
	// chance picks a fault that fits where none is given.
	chance int
}

func (o order) String() string {
	text := fmt.Sprintf("%d/%s/%s", o.step, o.fault, o.fate)
	if o.exists {
		text += "/exists"
	}
	return text
}

// ways are all the ways in which an effect can be spoiled. For every fault there is one in which the memory of the process is
// thrown away, at once or after its pass, and one in which it lives on with what it remembers. Two that cannot be told apart
// are one: whoever dies never learns the answer, so that it dies once after each effect, and to die before one, or at a read,
// is to die after the effect before it.
func ways(step int, of sort) []order {
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

// breaker numbers the effects of one run and spoils those that it is told to.
type breaker struct {
	// label names a request without anything that differs from run to run.
	label func(world.Request) string
	// stored is told of every write that had its effect.
	stored func(world.Request)
	// swallow makes a write succeed without an effect: a defect on purpose.
	swallow func(world.Request) bool

	mu      sync.Mutex
	on      bool
	effects []effect
	orders  []order
	dead    bool
	// dying is true during a call after which the process is dead.
	dying bool
	// fated is the fate that the spoiled effects of this pass bring; hits counts the orders carried out.
	fated fate
	hits  int
	// changes counts requests and calls that are meant to change something.
	changes int
}

// next numbers an effect and gives the order for it.
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
			fitting := ways(o.step, e.sort)
			o = fitting[o.chance%len(fitting)]
			b.orders[i] = o
		}
		b.hits++
		// Of two faults in one pass, a later one does not spare the process what an earlier one brings.
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
	o, spoiled := b.next(e)
	if !spoiled {
		return really()
	}
	b.dead = o.fate == dies
	return spoil(o, r, really)
}

// spoil does to a request what is ordered. An answer that did not arrive is not in the object either.
func spoil(o order, r world.Request, do func() error) error {
	broken := fmt.Errorf("%s: read tcp: %w", r.Verb, syscall.ECONNRESET)
	silent := fmt.Errorf("%s: %w", r.Verb, context.DeadlineExceeded)
	switch o.fault {
	case before:
		if o.step%2 == 0 {
			return fmt.Errorf("%s: dial tcp: %w", r.Verb, syscall.ECONNREFUSED)
		}
		answer := apierrors.NewInternalError(errors.New("the test wants it so"))
		answer.ErrStatus.Code = http.StatusInternalServerError
		return answer
	case timeout:
		return silent
	case conflict:
		resource := schema.GroupResource{Resource: r.Kind}
		if o.exists {
			return apierrors.NewAlreadyExists(resource, r.Name)
		}
		return apierrors.NewConflict(resource, r.Name, errors.New("the test wants it so"))
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

// call is asked before every call of an engine.
func (b *breaker) call(name string) databasetest.Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return databasetest.FailBefore
	}
	if changing(name) {
		b.changes++
	}
	o, spoiled := b.next(effect{name: "call " + name, sort: calls})
	if !spoiled {
		return 0
	}
	if o.fate == dies {
		// A call may ask the API server before it has its effect.
		b.dead, b.dying = o.fault == before, o.fault != before
	}
	return map[fault]databasetest.Mode{before: databasetest.FailBefore, after: databasetest.FailAfter, lost: databasetest.LoseAnswer,
		timeout: databasetest.Hang}[o.fault]
}

// called is told when a spoiled call has come to its end.
func (b *breaker) called(string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.dying = b.dead || b.dying, false
}

// changing tells whether a call is meant to change something at the remote end.
func changing(call string) bool { return call == "Stage" || call == "Retire" || call == "Remove" }

// number begins to number effects, or stops it.
func (b *breaker) number(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = on
}

// taken gives what has happened since the last call: changes, and the fate that a spoiled effect brought.
func (b *breaker) taken() (changes int, fated fate) {
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

// patience is how long a lost answer of an engine is waited for.
const patience = time.Millisecond

// isSecret gives the Secret that a request writes; nil where it writes something else.
func isSecret(r world.Request) *corev1.Secret {
	secret, _ := r.Object.(*corev1.Secret)
	return secret
}
