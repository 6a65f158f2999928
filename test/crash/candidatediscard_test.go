// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
)

// discarded is the ledger step that the workload does not cause. A candidate is discarded if its spec is edited between two
// reconciles; a running reconcile continues with the spec that it has read, and takes only milliseconds.
const discarded = "update secrets (ledger Discarded)"

// editAfterStaging leaves a candidate that its spec no longer requests: the operator dies after it staged the login, and then
// the spec is edited. The next process discards the candidate. The workload is paused until end is called.
func (k *killer) editAfterStaging() (end func()) {
	k.t.Helper()
	for range 5 {
		if end = k.tryEditAfterStaging(); end != nil {
			return end
		}
	}
	k.t.Fatalf("the operator did not die during a rotation of %s", k.edited)
	return nil
}

// tryEditAfterStaging tries once, and returns nil if another credential was being rotated.
func (k *killer) tryEditAfterStaging() (end func()) {
	k.t.Helper()
	object := &v1alpha1.DatabaseCredential{}
	object.Name, object.Namespace = k.edited, k.place.key(k.edited).Namespace
	edit := func() {
		k.t.Helper()
		if err := k.workload.edit(object)(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
	witness := k.lives.start("")
	k.workload.gate.Lock() // waits until every user has finished
	defer func() {
		if end == nil {
			k.workload.gate.Unlock()
		}
	}()
	k.settle(witness)
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
	return k.workload.gate.Unlock
}
