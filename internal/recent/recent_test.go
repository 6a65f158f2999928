// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package recent_test

import (
	"encoding/binary"
	"testing"

	"github.com/rekey/rekey/internal/recent"
)

func TestTheLastAnswersAreRememberedWithinBounds(t *testing.T) {
	const size = 16
	answers := recent.New[uint64](size)
	var key recent.Digest
	for i := range uint64(5 * size) {
		binary.BigEndian.PutUint64(key[:], i)
		answers.Put(key, i)
		if got, ok := answers.Get(key); !ok || got != i {
			t.Fatalf("answer %d was forgotten at once", i)
		}
	}
	if got := answers.Len(); got > 2*size {
		t.Errorf("%d answers are remembered, want at most %d", got, 2*size)
	}
	if _, ok := answers.Get(recent.Digest{}); ok {
		t.Error("the first answer is remembered for ever")
	}
}
