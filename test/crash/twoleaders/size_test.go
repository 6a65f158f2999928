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

func TestMain(m *testing.M) { os.Exit(world.Main(m, servers.Stop)) }

// full reports whether REKEY_SIZE is full.
func full() bool { return os.Getenv("REKEY_SIZE") == "full" }

// sized returns the number of repetitions for the size.
func sized(short, long int) int {
	if full() {
		return long
	}
	return short
}

// requestedSeed returns the seed in REKEY_SEED.
func requestedSeed(t *testing.T) (seed uint64, ok bool) {
	t.Helper()
	given := os.Getenv("REKEY_SEED")
	if given == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		t.Fatalf("REKEY_SEED=%s is not a number: %v", given, err)
	}
	return seed, true
}

// freshSeed returns a new seed, or the one in REKEY_SEED, and logs it.
func freshSeed(t *testing.T) uint64 {
	t.Helper()
	seed, ok := requestedSeed(t)
	if !ok {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("to replay: REKEY_SEED=%d", seed)
	return seed
}

// seeds returns the seeds to play: 1 to n and a fresh one, or only the one in REKEY_SEED.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	if seed, ok := requestedSeed(t); ok {
		return []uint64{seed}
	}
	var out []uint64
	for seed := range uint64(n) {
		out = append(out, seed+1)
	}
	return append(out, freshSeed(t))
}

// playEach plays every seed as its own subtest, as many at a time as -parallel allows.
func playEach(t *testing.T, what string, all []uint64, play func(t *testing.T, seed uint64)) {
	t.Helper()
	started := time.Now()
	t.Run("seed", func(t *testing.T) {
		for _, seed := range all {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				play(t, seed)
			})
		}
	})
	t.Logf("%d %s in %s", len(all), what, time.Since(started).Round(100*time.Millisecond))
}
