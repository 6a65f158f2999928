// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rekey/rekey/internal/credential"
)

func TestAttemptsAreSafeForConcurrentUseAndForgotten(t *testing.T) {
	t.Parallel()
	memory := &Attempts{}
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			d := newDrive()
			d.Attempts = memory
			d.subject.UID = fmt.Sprint("uid-", i%10, "-", i)
			d.source.stageErr = errors.New("no")
			d.reconcile()
			d.reconcile()
			if i%2 == 0 {
				memory.Forget(d.subject.UID)
			}
		})
	}
	group.Wait()
	if len(memory.byUID) != 25 {
		t.Errorf("%d objects are remembered, want 25", len(memory.byUID))
	}
}

// After a lost answer of Discard, the next candidate may have the same number.
func TestWhatWasLearnedAboutACandidateSaysNothingAboutTheNextOne(t *testing.T) {
	t.Parallel()
	d := newDrive()
	known := d.Attempts.openEntry(d.subject.UID, inputs{}, d.clock.Now())
	known.candidate = candidate{seq: 1, answer: credential.Rejected, rejections: finalRejections}
	d.Attempts.keepEntry(d.subject.UID, known)
	if out := d.reconcile(); out.Err != nil || out.Snapshot.Ledger.Current == nil || out.Snapshot.Ledger.Current.Seq != 1 {
		t.Errorf("the current version is %+v: %v", out.Snapshot.Ledger.Current, out.Err)
	}
}
