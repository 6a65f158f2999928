// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"encoding/binary"
	"testing"

	"github.com/rekey/rekey/internal/cache"
)

func TestTheLastValuesAreCachedWithinBounds(t *testing.T) {
	const size = 16
	values := cache.New[uint64](size)
	var key cache.Key
	for i := range uint64(5 * size) {
		binary.BigEndian.PutUint64(key[:], i)
		values.Put(key, i)
		if got, ok := values.Get(key); !ok || got != i {
			t.Fatalf("value %d was dropped at once", i)
		}
	}
	if got := values.Len(); got > 2*size {
		t.Errorf("%d values are cached, want at most %d", got, 2*size)
	}
	if _, ok := values.Get(cache.Key{}); ok {
		t.Error("the first value is never dropped")
	}
}
