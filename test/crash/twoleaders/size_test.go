// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m, servers.Stop)) }

// seeds returns the seeds to play: 1 to n and a new one, or only the one in REKEY_SEED.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	if seed, ok := size.Requested(); ok {
		return []uint64{seed}
	}
	var out []uint64
	for seed := range uint64(n) {
		out = append(out, seed+1)
	}
	t.Logf("to replay: REKEY_SEED=%d", size.Seed())
	return append(out, size.Seed())
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
