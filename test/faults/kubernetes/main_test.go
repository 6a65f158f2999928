// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rekey/rekey/test/world"
)

// sized returns the number for the size in REKEY_SIZE.
func sized(short, long int) int {
	if os.Getenv("REKEY_SIZE") == "full" {
		return long
	}
	return short
}

// seeded returns the random source of a test, and logs how to repeat it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("REKEY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("random choices; to repeat them: REKEY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }
