// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package size decides how much of a large space a test covers, and makes its random choices repeatable.
//
//	REKEY_SIZE  short: a random sample with at least one case of every class; full: a much larger part, and the whole space where
//	            that is feasible; not set: that of make test, which is smaller than short in some places
//	REKEY_SEED  the seed of the random choices, a number; without it, every process draws a new one
//
// make test sets REKEY_SEED to the date and prints it, so the sample changes every day; make crash sets REKEY_SIZE=full.
// A failed test logs the seed that repeats its choices.
package size

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Full reports whether tests cover the whole space.
func Full() bool {
	switch value := os.Getenv("REKEY_SIZE"); value {
	case "", "short":
		return false
	case "full":
		return true
	default:
		panic(fmt.Sprintf("REKEY_SIZE is %q: it must be short or full", value))
	}
}

// Number returns the number for the size.
func Number(short, full int) int {
	if Full() {
		return full
	}
	return short
}

// Choose is Number with a smaller number for make test, which leaves REKEY_SIZE empty.
func Choose(test, short, full int) int {
	if os.Getenv("REKEY_SIZE") == "" {
		return test
	}
	return Number(short, full)
}

// Requested returns the seed in REKEY_SEED.
func Requested() (seed uint64, ok bool) {
	text := os.Getenv("REKEY_SEED")
	if text == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("REKEY_SEED is %q: it must be a number", text))
	}
	return seed, true
}

// drawn is the seed of a process without REKEY_SEED: six digits are easy to copy.
var drawn = sync.OnceValue(func() uint64 { return uint64(time.Now().UnixNano()) % 1_000_000 })

// Seed returns the seed of all random choices of this process.
func Seed() uint64 {
	if seed, ok := Requested(); ok {
		return seed
	}
	return drawn()
}

// RandomFrom returns the random source of a test in make test. Without REKEY_SEED it starts from the given seed, so that a
// repeated run, and a run with a broken product, makes the same choices.
func RandomFrom(tb testing.TB, seed uint64) *rand.Rand {
	tb.Helper()
	if requested, ok := Requested(); ok {
		seed = requested
	}
	tb.Logf("to repeat the random choices: REKEY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Random returns a random source of a test. Sources with different streams are independent. The seed is logged.
func Random(tb testing.TB, stream uint64) *rand.Rand {
	tb.Helper()
	seed := Seed()
	tb.Logf("to repeat the random choices: REKEY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, stream))
}

// Sample returns all cases in full size, or a random part of them that has at least one case of every class and, if there are
// enough, some cases. The order stays.
func Sample[T any, C comparable](random *rand.Rand, all []T, some int, class func(T) C) []T {
	if Full() || len(all) <= some {
		return all
	}
	chosen := map[int]bool{}
	seen := map[C]bool{}
	order := random.Perm(len(all))
	for _, i := range order {
		if c := class(all[i]); !seen[c] {
			seen[c], chosen[i] = true, true
		}
	}
	for _, i := range order {
		if len(chosen) >= some {
			break
		}
		chosen[i] = true
	}
	out := make([]T, 0, len(chosen))
	for i, one := range all {
		if chosen[i] {
			out = append(out, one)
		}
	}
	return slices.Clip(out)
}
