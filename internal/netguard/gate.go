// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import "sync"

// gates keep a server that does not answer from occupying every worker: after an attempt that was not answered in time, only
// one attempt at a time is made to reach that address, until one gets an answer. Other callers are refused at once and retry
// after their own backoff.
type gates struct {
	mu     sync.Mutex
	silent map[string]*gate
}

// gate is the state of an address that did not answer last time.
type gate struct{ busy bool }

// enter reports whether the address may be dialed now, and whether the caller is the only one that may. A caller that may
// dial must call leave.
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

// leave records the result of an attempt: answered is false if nothing came in time, and true whatever the answer was.
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
