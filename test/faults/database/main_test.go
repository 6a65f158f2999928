// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/world"
)

// lives is the number of credentials that live in parallel: most of them wait for a response that never comes.
const lives = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", lives); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(world.Main(m, servers.Stop))
}

// full reports whether there is time for more than a sample.
func full() bool { return os.Getenv("REKEY_SIZE") == "full" }

// seed returns the seed of all random choices: REKEY_SEED, or a new one for each run.
var seed = sync.OnceValue(func() uint64 {
	if text := os.Getenv("REKEY_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic("REKEY_SEED is not a number: " + text)
		}
		return given
	}
	return uint64(time.Now().UnixNano())
})

// randomOf returns the random source of a test. If the test fails, it logs how to repeat the same choices.
func randomOf(t *testing.T) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("this test made random choices; REKEY_SEED=%d repeats them", seed())
		}
	})
	return rand.New(rand.NewPCG(seed(), 0))
}

// sample returns a random sample: some items in short size, more of them in full size, or all if there are fewer.
func sample[T any](random *rand.Rand, all []T, some, more int) []T {
	wanted := some
	if full() {
		wanted = more
	}
	if len(all) <= wanted {
		return all
	}
	out := make([]T, 0, wanted)
	for _, i := range random.Perm(len(all))[:wanted] {
		out = append(out, all[i])
	}
	return out
}

// servers are shared by all tests that do not damage them.
var servers pgtest.Shared
