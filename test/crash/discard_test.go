// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
)

// discarded is the step of the ledger that no wish brings about: a candidate is discarded where its spec is edited between two
// passes; a pass that has begun goes on with the spec that it has read, and is over within milliseconds.
const discarded = "update secrets (ledger Discarded)"

// changeOfMind leaves a candidate that its spec does not ask for any more: the operator dies when the login is staged, and then
// the spec is edited. The next life discards it. Nobody wants anything until end is called.
func (k *killer) changeOfMind() (end func()) {
	k.t.Helper()
	for range 5 {
		if end = k.changed(); end != nil {
			return end
		}
	}
	k.t.Fatalf("the operator did not die in a rotation of %s", k.edited)
	return nil
}

// changed tries it once, and gives nil where another credential was in the middle of its rotation.
func (k *killer) changed() (end func()) {
	k.t.Helper()
	const staged = "after update secrets (ledger Staged)"
	object := &v1alpha1.DatabaseCredential{}
	object.Name, object.Namespace = k.edited, k.place.key(k.edited).Namespace
	edit := k.busy.edit(object)
	must := func(err error) {
		k.t.Helper()
		if err != nil {
			k.t.Fatalf("%v\n%s", err, k.lives.all[len(k.lives.all)-1].words())
		}
	}
	witness := k.lives.start("")
	k.busy.gate.Lock()
	defer func() {
		if end == nil {
			k.busy.gate.Unlock()
		}
	}()
	must(k.busy.failed())
	must(await(k.t.Context(), patience, k.settled))
	must(witness.kill())
	k.random++
	must(edit(k.t.Context()))
	victim := k.lives.start(staged)
	select {
	case <-victim.ended:
	case <-time.After(waitForPoint):
		must(errors.New("nothing was staged after an edit"))
	}
	if !victim.diedAtPoint() || !victim.killed() {
		must(fmt.Errorf("the operator ended otherwise than at %q: %s", staged, victim.cmd.ProcessState))
	}
	k.tallies[staged].kills++
	ledger, err := k.place.ledger(k.t.Context(), k.edited)
	must(err)
	if ledger.Pending == nil || ledger.Pending.Stage != rotation.Staged {
		return nil
	}
	must(edit(k.t.Context()))
	return k.busy.gate.Unlock
}
