// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/sha256"
	"sync"
)

// Key is a cache key: the digest of everything that the value depends on.
type Key = [sha256.Size]byte

// Bounded holds at least the last size values and at most twice as many: when the young half is full it becomes the old one, and
// the old one is dropped. It is safe for concurrent use.
type Bounded[V any] struct {
	size       int
	mu         sync.Mutex
	young, old map[Key]V
}

// New returns an empty cache.
func New[V any](size int) *Bounded[V] { return &Bounded[V]{size: size} }

// Get returns the value under key, and whether there is one.
func (b *Bounded[V]) Get(key Key) (value V, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if value, ok = b.young[key]; ok {
		return value, true
	}
	value, ok = b.old[key]
	return value, ok
}

// Put stores a value.
func (b *Bounded[V]) Put(key Key, value V) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.young) >= b.size {
		b.young, b.old = nil, b.young
	}
	if b.young == nil {
		b.young = make(map[Key]V, b.size)
	}
	b.young[key] = value
}

// Len returns the number of values.
func (b *Bounded[V]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.young) + len(b.old)
}
