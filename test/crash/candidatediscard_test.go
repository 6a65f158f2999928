// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
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
	object := &v1alpha1.DatabaseCredential{}
	object.Name, object.Namespace = k.edited, k.place.key(k.edited).Namespace
	edit := func() {
		k.t.Helper()
		if err := k.busy.edit(object)(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
	witness := k.lives.start("")
	k.busy.gate.Lock() // waits until every wish is fulfilled
	defer func() {
		if end == nil {
			k.busy.gate.Unlock()
		}
	}()
	k.rest(witness)
	if err := witness.kill(); err != nil {
		k.t.Fatal(err)
	}
	edit()
	if !k.atPoint("after update secrets (ledger Staged)") {
		return nil
	}
	ledger, err := k.place.ledger(k.t.Context(), k.edited)
	if err != nil {
		k.t.Fatal(err)
	}
	if ledger.Pending == nil || ledger.Pending.Stage != rotation.Staged {
		return nil
	}
	edit()
	return k.busy.gate.Unlock
}
