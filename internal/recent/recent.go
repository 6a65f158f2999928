// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"crypto/sha256"
	"sync"
)

// Digest names octets.
type Digest = [sha256.Size]byte

// Answers are between size and twice size of those that were given last: when the young half is full, that becomes the old
// one, and the old one is forgotten. It is safe for concurrent use.
type Answers[V any] struct {
	size       int
	mu         sync.Mutex
	young, old map[Digest]V
}

// New makes room for answers.
func New[V any](size int) *Answers[V] { return &Answers[V]{size: size} }

// Get gives a remembered answer.
func (a *Answers[V]) Get(key Digest) (value V, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if value, ok = a.young[key]; ok {
		return value, true
	}
	value, ok = a.old[key]
	return value, ok
}

// Put remembers an answer.
func (a *Answers[V]) Put(key Digest, value V) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.young) >= a.size {
		a.young, a.old = nil, a.young
	}
	if a.young == nil {
		a.young = make(map[Digest]V, a.size)
	}
	a.young[key] = value
}

// Len is how many answers are held.
func (a *Answers[V]) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.young) + len(a.old)
}
