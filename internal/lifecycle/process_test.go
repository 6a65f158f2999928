// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/rotation"
)

// process is one operator process: everything in it is lost when it dies.
type process struct {
	world   *world
	rotator *lifecycle.Driver
}

func (w *world) boot() *process {
	if w.swap != nil {
		w.swap.queued = nil // only the dead process knew of it
	}
	r := &lifecycle.Driver{
		Clock: w, Skew: func() (time.Duration, bool) { return 0, true }, Attempts: &lifecycle.Attempts{},
	}
	if w.rows != nil {
		rows := w.rows
		r.Next = func(o rotation.Observation) rotation.Decision { return rotation.Decide(rows, o) }
	}
	return &process{world: w, rotator: r}
}

// subject is the credential as its controller would resolve it from this spec.
func (w *world) subject(s spec) lifecycle.Credential {
	subject := lifecycle.Credential{
		Ref: credential.Ref{Cluster: "cluster", Namespace: "web", Name: "orders"}, UID: "uid-1",
		Policy: w.policy, Traits: w.traits(), Fingerprint: s.fingerprint, Preconditions: s.unmet,
		Rotate: s.rotate, RetirePrevious: s.retirePrevious, Former: s.former,
		Deleting: s.deleting, Suspended: s.suspended, Delete: s.delete, WithdrawDeadline: s.deletedAt.Add(withdrawTime),
		Source: &server{w}, Store: &ledgered{world: w},
	}
	switch w.kind {
	case twoSlots:
	case certificate:
		subject.Store, subject.Source = &published{world: w, fingerprint: s.fingerprint}, &authority{w}
	case late, proven:
		subject.Store, subject.Source = &candidated{world: w}, &lateIssuance{w}
	case minted:
		subject.Source = &provider{w}
	case pair, fakeOneSlot, fakeTwoSlots, fakeMinted:
		subject.Source = &hosted{w}
	}
	return subject
}

// reconcile runs one reconcile with the current spec. died is true if the process died during it.
func (p *process) reconcile(s spec) (out lifecycle.Outcome, died bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			died = true
		}
	}()
	p.world.watch.startsReconcile(p.world, s)
	out = p.rotator.Drive(background, p.world.subject(s))
	if p.world.swap != nil {
		p.world.swap.flush(p.world)
	}
	return out, false
}
