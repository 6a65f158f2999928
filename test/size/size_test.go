// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package size

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// numbers are 0 to 99; their last digit is their class.
func numbers() []int {
	out := make([]int, 100)
	for i := range out {
		out[i] = i
	}
	return out
}

func lastDigit(i int) int { return i % 10 }

func TestASampleHasEveryClassInOrder(t *testing.T) {
	t.Setenv("REKEY_SIZE", "short")
	for some, want := range map[int]int{0: 10, 3: 10, 25: 25, 99: 99, 100: 100, 1000: 100} {
		for seed := range uint64(50) {
			got := Sample(rand.New(rand.NewPCG(seed, 0)), numbers(), some, lastDigit)
			if len(got) != want {
				t.Errorf("a sample of %d has %d cases, want %d", some, len(got), want)
			}
			if !slices.IsSorted(got) {
				t.Errorf("the order changed: %v", got)
			}
			classes := map[int]bool{}
			for _, i := range got {
				classes[lastDigit(i)] = true
			}
			if len(classes) != 10 {
				t.Errorf("a sample of %d has only %d of 10 classes", some, len(classes))
			}
		}
	}
}

func TestASeedRepeatsASampleAndAnotherDrawsADifferentOne(t *testing.T) {
	t.Setenv("REKEY_SIZE", "")
	draw := func(seed string, stream uint64) []int {
		t.Setenv("REKEY_SEED", seed)
		return Sample(Random(t, stream), numbers(), 30, lastDigit)
	}
	first := draw("7", 0)
	if diff := cmp.Diff(first, draw("7", 0)); diff != "" {
		t.Errorf("the same seed (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, draw("8", 0)) || cmp.Equal(first, draw("7", 1)) {
		t.Error("another seed or stream draws the same sample")
	}
}

func TestEverySeedTogetherCoversTheWholeSpace(t *testing.T) {
	t.Setenv("REKEY_SIZE", "short")
	seen := map[int]bool{}
	for seed := range uint64(100) {
		for _, i := range Sample(rand.New(rand.NewPCG(seed, 0)), numbers(), 0, lastDigit) {
			seen[i] = true
		}
	}
	if len(seen) != 100 {
		t.Errorf("100 samples cover %d of 100 cases", len(seen))
	}
}

func TestFullSizeIsTheWholeSpace(t *testing.T) {
	t.Setenv("REKEY_SIZE", "full")
	if diff := cmp.Diff(numbers(), Sample(rand.New(rand.NewPCG(1, 0)), numbers(), 5, lastDigit)); diff != "" {
		t.Errorf("the sample (-want +got):\n%s", diff)
	}
	if got := Number(1, 2); got != 2 {
		t.Errorf("the number is %d, want 2", got)
	}
}

func TestAnUnknownSizeOrSeedIsRefused(t *testing.T) {
	refused := func(ask func()) (out bool) {
		defer func() { out = recover() != nil }()
		ask()
		return false
	}
	t.Setenv("REKEY_SIZE", "huge")
	if !refused(func() { Full() }) {
		t.Error("REKEY_SIZE=huge is accepted")
	}
	t.Setenv("REKEY_SEED", "seven")
	if !refused(func() { Seed() }) {
		t.Error("REKEY_SEED=seven is accepted")
	}
}
