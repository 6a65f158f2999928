// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Group is a set of children of this process. The kernel kills them when this
// process dies in whatever way.
type Group struct {
	spawn chan func()
	quit  chan struct{}

	mu       sync.Mutex
	children []*Child
	stopping bool

	failed chan error
}

// Child is one running program.
type Child struct {
	Record
	LogFile string
	done    chan struct{}
	err     error // readable once done is closed
}

// Done is closed when the program has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// NewGroup makes an empty group.
func NewGroup() *Group {
	g := &Group{spawn: make(chan func()), quit: make(chan struct{}), failed: make(chan error, 1)}
	// The kernel's "signal at the parent's death" means the death of the thread
	// that forked, so every child is forked from one thread that never ends.
	go func() {
		runtime.LockOSThread()
		for {
			select {
			case start := <-g.spawn:
				start()
			case <-g.quit:
				return
			}
		}
	}()
	return g
}

// Failed yields an error when a child ends that nobody asked to end.
func (g *Group) Failed() <-chan error { return g.failed }

// Children lists what was started, in order.
func (g *Group) Children() []*Child {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Child(nil), g.children...)
}

// Start runs cmd with its output in logFile.
func (g *Group) Start(name, logFile string, cmd *exec.Cmd) (*Child, error) {
	out, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("making the log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for the launcher, which then stops them in order
	started := make(chan error)
	g.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	child := &Child{LogFile: logFile, done: make(chan struct{})}
	child.Record, err = RecordOf(name, cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	g.mu.Lock()
	g.children = append(g.children, child)
	g.mu.Unlock()
	go g.watch(child, cmd)
	return child, nil
}

func (g *Group) watch(child *Child, cmd *exec.Cmd) {
	child.err = cmd.Wait()
	close(child.done)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return
	}
	select {
	case g.failed <- fmt.Errorf("%s ended: %w\n%s", child.Name, orExited(child.err), Tail(child.LogFile, 20)):
	default: // somebody was told already
	}
}

// Stop ends every child, the last started first, and waits for each. Nothing
// can be started afterwards without being reported as stopped on purpose.
func (g *Group) Stop(grace time.Duration) error {
	g.mu.Lock()
	g.stopping = true
	children := append([]*Child(nil), g.children...)
	g.children = nil
	g.mu.Unlock()
	var errs []error
	for _, child := range slices.Backward(children) {
		if err := child.End(grace); err != nil {
			errs = append(errs, err)
			continue
		}
		<-child.done
	}
	return errors.Join(errs...)
}

// Close lets the group's thread go. The group must be stopped.
func (g *Group) Close() { close(g.quit) }

func orExited(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
