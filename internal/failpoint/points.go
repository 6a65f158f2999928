// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Environment variables.
const (
	// VariablePoint names the point to die at, and at which of its hits, such as "before Retire#2"; without a number it is
	// the first hit. Empty for none.
	VariablePoint = "REKEY_FAILPOINT"
	// VariableTrace names a file to which every point that is passed appends a line.
	VariableTrace = "REKEY_FAILPOINT_TRACE"
)

// Died is the line that ends the trace of a process that died at its point.
const Died = "died here"

// Points are the failpoints of one process.
type Points struct {
	armed string
	at    int
	trace *os.File
	die   func()

	mu   sync.Mutex
	hits map[string]int
}

// New parses the values of the two variables.
func New(armed, trace string) (*Points, error) {
	p := &Points{armed: armed, at: 1, die: killSelf, hits: map[string]int{}}
	if name, hit, found := strings.Cut(armed, "#"); found {
		at, err := strconv.Atoi(hit)
		if err != nil || at < 1 {
			return nil, fmt.Errorf("reading %s: %q is not the number of a hit: write NAME#1 or more", VariablePoint, hit)
		}
		p.armed, p.at = name, at
	}
	if trace == "" {
		return p, nil
	}
	var err error
	if p.trace, err = os.OpenFile(trace, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil { //nolint:gosec // G304: the user who starts the process chooses the file
		return nil, fmt.Errorf("opening the trace of the failpoints: %w", err)
	}
	return p, nil
}

// killSelf does not return.
func killSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // to ourselves it cannot fail
	select {}
}

// pass records that the point is passed, and kills the process if the point is armed. Any other goroutine that reaches a
// point in the meantime stops there.
func (p *Points) pass(when, what string) {
	name := when + " " + what
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits[name]++
	p.note(name)
	if name == p.armed && p.hits[name] == p.at {
		p.note(Died)
		p.die()
	}
}

func (p *Points) note(line string) {
	if p.trace == nil {
		return
	}
	if _, err := p.trace.WriteString(line + "\n"); err != nil {
		panic(fmt.Sprintf("writing the trace of the failpoints: %v", err)) // a point that is not in the trace would count as not passed
	}
}

// around passes the points before and after a call.
func around[T any](p *Points, what string, call func() (T, error)) (T, error) {
	p.pass("before", what)
	out, err := call()
	p.pass("after", what)
	return out, err
}
