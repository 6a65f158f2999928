// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import "sync"

// memory remembers what was read for each key: the sources do not change while rows are checked. It is safe for concurrent use.
type memory[T any] struct {
	read func(key string) (T, error)

	mu    sync.Mutex
	known map[string]T
}

// of returns what read returns for the key, and calls read once. An error is not remembered.
func (m *memory[T]) of(key string) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.known[key]; ok {
		return value, nil
	}
	value, err := m.read(key)
	if err != nil {
		return value, err
	}
	if m.known == nil {
		m.known = map[string]T{}
	}
	m.known[key] = value
	return value, nil
}
