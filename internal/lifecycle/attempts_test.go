// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"fmt"
	"sync"
	"testing"
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
