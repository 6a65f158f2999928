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

// size is the size of a run.
type size struct {
	every       bool // a kill at every point
	sample      int  // further kills at random points
	randomKills int  // kills at random instants
	between     int  // kills between two complete checks
}

// sizeOf reads REKEY_SIZE.
func sizeOf(t *testing.T) size {
	t.Helper()
	switch value := os.Getenv("REKEY_SIZE"); value {
	case "", "short":
		return size{sample: 19, randomKills: 5, between: 13}
	case "full":
		return size{every: true, sample: 45, randomKills: 55, between: 25}
	default:
		t.Fatalf("REKEY_SIZE is %q: it must be short or full", value)
		return size{}
	}
}

// randomOf returns the random source for REKEY_SEED, and logs its seed.
func randomOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("REKEY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("REKEY_SEED is %q: it must be a number", text)
		}
	}
	t.Logf("to replay: REKEY_SEED=%d", seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("this was REKEY_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 3))
}
