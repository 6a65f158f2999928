// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Two processes that take turns at random, call by call.
func TestTwoProcessesThatTakeTurnsSettle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		text := &strings.Builder{}
		if err := turns(twoSlots, seed, nil); err != nil {
			_ = turns(twoSlots, seed, text)
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
	}
}

// The same for the other kinds of source: a candidate's ledger is a fence, too.
func TestTwoProcessesOfEveryKindThatTakeTurnsSettle(t *testing.T) {
	t.Parallel()
	for _, k := range append([]kind{late, proven, minted}, hostedKinds...) {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				text := &strings.Builder{}
				if err := turns(k, seed, nil); err != nil {
					_ = turns(k, seed, text)
					t.Fatalf("seed %d: %v\n%s", seed, err, text)
				}
			}
		})
	}
}

func turns(k kind, seed uint64, trace *strings.Builder) error {
	w := newWorld(k)
	w.watch.twoDrivers, w.trace = true, trace
	dice := rand.New(rand.NewPCG(seed, 0))
	both := []*actor{{process: w.boot()}, {process: w.boot()}}
	for round := 0; w.now.Before(start.Add(14 * time.Hour)); round++ {
		if round > 4000 {
			return fmt.Errorf("time does not pass")
		}
		a := both[dice.IntN(2)]
		if a.next == nil {
			if wake := a.out.WakeAt(); wake.After(w.now) && both[0].next == nil && both[1].next == nil {
				w.sleep(wake)
			}
			a.begin()
		}
		a.step()
		if dice.IntN(200) == 0 {
			w.spec.fingerprint = fmt.Sprintf("v%d", dice.IntN(3))
		}
	}
	both[0].finish()
	both[1].finish()
	w.yield = nil
	scenario{}.rest(w, w.alone(w.boot(), start.Add(duoLife)))
	return w.watch.broken
}
