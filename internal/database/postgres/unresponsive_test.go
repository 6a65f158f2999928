// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
)

// R24: many calls that wait for a silent server take the time of one, except for the first of them.
func TestManyCallsToASilentServerTakeTheTimeOfOne(t *testing.T) {
	port, _ := listener(t)
	target := (&fakeServer{port: port}).target(database.TLSDisable, nil)
	engine := New(Options{Dialer: viaIPv4(), ConnectTimeout: 300 * time.Millisecond})
	ask := func() time.Duration {
		opened, err := openOn(t.Context(), engine, target)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		begun := time.Now()
		_, err = opened.(*session).Marker(t.Context(), testRef(1, "a"))
		wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable, "no answer in time")
		return time.Since(begun)
	}
	ask()
	var mu sync.Mutex
	var total time.Duration
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			took := ask()
			mu.Lock()
			defer mu.Unlock()
			total += took
		})
	}
	group.Wait()
	if total > 2*time.Second {
		t.Errorf("20 attempts took %s together, want little more than the %s of one", total, 300*time.Millisecond)
	}
}
