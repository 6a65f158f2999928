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
// process dies.
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

// Done is closed when the program has exited.
func (c *Child) Done() <-chan struct{} { return c.done }

// NewGroup returns an empty group.
func NewGroup() *Group {
	g := &Group{spawn: make(chan func()), quit: make(chan struct{}), failed: make(chan error, 1)}
	// The kernel's parent-death signal follows the thread that forked, so one thread,
	// which never exits, forks every child.
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

// Failed yields an error when a child exits that was not asked to stop.
func (g *Group) Failed() <-chan error { return g.failed }

// Children returns the started programs, in order.
func (g *Group) Children() []*Child {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Child(nil), g.children...)
}

// Start runs cmd with its output in logFile.
func (g *Group) Start(name, logFile string, cmd *exec.Cmd) (*Child, error) {
	out, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("creating the log of %s: %w", name, err)
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
	case g.failed <- fmt.Errorf("%s exited: %w\n%s", child.Name, orExited(child.err), Tail(child.LogFile, 20)):
	default: // a failure is already reported
	}
}

// Stop stops every child, the last one first, and waits for each. The exit of a
// child that is started later is not reported as a failure.
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

// Close releases the group's thread. The group must be stopped.
func (g *Group) Close() { close(g.quit) }

func orExited(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
