// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/secretstore"
)

// awayStore is a store that cannot be read.
type awayStore struct{ lifecycle.Store }

func (awayStore) Load(context.Context) (secretstore.Snapshot, error) {
	return secretstore.Snapshot{}, errors.New("down")
}

// TestARecreatedObjectLeavesNothingInMemory covers deletions that no reconcile saw.
func TestARecreatedObjectLeavesNothingInMemory(t *testing.T) {
	t.Parallel()
	names, memory, now := &uidNames{}, &lifecycle.Attempts{}, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	request := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "app"}}
	driver := &lifecycle.Driver{Clock: clocktesting.NewFakePassiveClock(now), Skew: func() (time.Duration, bool) { return 0, true }, Attempts: memory}
	uid := func(i int) string { return fmt.Sprint("uid-", i) }
	known := func() int {
		count := 0
		for i := range 20 {
			if remembered(memory, uid(i)) {
				count++
			}
		}
		return count
	}
	for i := range 20 {
		object := &v1alpha1.ClientIdentity{}
		object.UID = types.UID(uid(i))
		names.noteUID(memory, object, request)
		names.noteUID(memory, object, request)
		driver.Drive(t.Context(), lifecycle.Credential{UID: uid(i), Store: awayStore{}})
	}
	if count := known(); count != 1 {
		t.Errorf("%d objects of one name are remembered", count)
	}
	names.forgetUID(memory, &v1alpha1.ClientIdentity{}, request)
	if count := known(); count != 0 {
		t.Errorf("%d deleted objects are remembered", count)
	}
}
