// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"crypto/sha256"
	"sync"
)

// digest names octets.
type digest = [sha256.Size]byte

// recent remembers between size and twice size answers that were asked for last: when its young half is full, that
// becomes the old one, and the old one is forgotten. It is safe for concurrent use.
type recent[V any] struct {
	size       int
	mu         sync.Mutex
	young, old map[digest]V
}

func newRecent[V any](size int) *recent[V] { return &recent[V]{size: size} }

func (r *recent[V]) get(key digest) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok = r.young[key]; ok {
		return value, true
	}
	value, ok = r.old[key]
	return value, ok
}

func (r *recent[V]) put(key digest, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.young) >= r.size {
		r.young, r.old = nil, r.young
	}
	if r.young == nil {
		r.young = make(map[digest]V, r.size)
	}
	r.young[key] = value
}
