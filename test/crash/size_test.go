// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// sizes of a run.
type size struct {
	every   bool // a death at every point
	sample  int  // deaths at points that the dice choose, beside those
	random  int  // deaths at random instants
	between int  // deaths between two looks at everything
}

// sizeOf reads REKEY_SIZE.
func sizeOf(t *testing.T) size {
	t.Helper()
	switch value := os.Getenv("REKEY_SIZE"); value {
	case "", "short":
		return size{sample: 19, random: 5, between: 13}
	case "full":
		return size{every: true, sample: 45, random: 55, between: 25}
	default:
		t.Fatalf("REKEY_SIZE is %q: it must be short or full", value)
		return size{}
	}
}

// diceOf reads REKEY_SEED, and prints what the dice are made from.
func diceOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("REKEY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("REKEY_SEED is %q: it must be a number", text)
		}
	}
	t.Logf("the same dice again: REKEY_SEED=%d", seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("this was REKEY_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 3))
}
