// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rekey/rekey/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m, stopServers)) }

// full tells whether there is time for everything.
func full() bool { return os.Getenv("REKEY_SIZE") == "full" }

// sized gives how many of something fit.
func sized(short, long int) int {
	if full() {
		return long
	}
	return short
}

// asked gives the seed that REKEY_SEED asks for.
func asked(t *testing.T) (seed uint64, ok bool) {
	t.Helper()
	given := os.Getenv("REKEY_SEED")
	if given == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("REKEY_SEED=%s is no number: %v", given, err)
	}
	return seed, true
}

// fresh gives a seed that nobody has tried, or the one that REKEY_SEED asks for, and prints it.
func fresh(t *testing.T) uint64 {
	t.Helper()
	seed, ok := asked(t)
	if !ok {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("the same dice again: REKEY_SEED=%d", seed)
	return seed
}

// seeds gives the seeds to play: from 1 on and a fresh one, or only the one that REKEY_SEED asks for.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	if seed, ok := asked(t); ok {
		return []uint64{seed}
	}
	var out []uint64
	for seed := range uint64(n) {
		out = append(out, seed+1)
	}
	return append(out, fresh(t))
}

// each plays every seed as a test of its own, as many at a time as -parallel says.
func each(t *testing.T, what string, all []uint64, play func(t *testing.T, seed uint64)) {
	t.Helper()
	begun := time.Now()
	t.Run("seed", func(t *testing.T) {
		for _, seed := range all {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				play(t, seed)
			})
		}
	})
	t.Logf("%d %s in %s", len(all), what, time.Since(begun).Round(100*time.Millisecond))
}
