// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import "sync"

// gates keep one server that does not answer from taking up everybody who could look after another one: after a
// connection that was not answered in time, only one attempt at a time is made to reach that address, until one gets an
// answer. Who comes meanwhile is told so at once, and comes again after its own wait.
type gates struct {
	mu     sync.Mutex
	silent map[string]*gate
}

// gate of an address that did not answer last time.
type gate struct{ busy bool }

// enter tells whether the address may be dialed now, and whether nobody else may meanwhile. Whoever may calls leave.
func (g *gates) enter(address string) (may, alone bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := g.silent[address]
	switch {
	case known == nil:
		return true, false
	case known.busy:
		return false, false
	}
	known.busy = true
	return true, true
}

// leave notes how an attempt ended: answered is false where nothing came in time, and true whatever the answer was.
func (g *gates) leave(address string, alone, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if answered {
		delete(g.silent, address)
		return
	}
	if g.silent == nil {
		g.silent = map[string]*gate{}
	}
	switch known := g.silent[address]; {
	case known == nil:
		g.silent[address] = &gate{}
	case alone:
		known.busy = false
	}
}
