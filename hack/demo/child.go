// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is a program that the demo started and stops.
type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has exited
	err  error         // how it exited; read only after done
}

// launch starts a program in its own process group, so that Ctrl-C reaches only the demo, which stops its children in
// order. If the demo dies, the kernel sends SIGTERM: it ties that to the forking thread, so that thread is kept.
func launch(name string, cmd *exec.Cmd) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c := &child{name: name, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return c, nil
}

// program returns a command whose output goes to the transcripts.
func program(dir string, env []string, stdout, stderr io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// stop asks the program to exit, and kills it once the patience is over.
func (c *child) stop(patience time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have exited already
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// ended reports whether the program has exited.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// work runs a program until it exits, or stops it with the context.
func work(ctx context.Context, dir string, env []string, stdout, stderr io.Writer, name string, args ...string) error {
	said := &transcript{}
	c, err := launch(name, program(dir, env, stdout, io.MultiWriter(said, stderr), name, args...))
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.stop(10 * time.Second)
		return fmt.Errorf("running %s: %w", name, ctx.Err())
	}
	if c.err != nil {
		return fmt.Errorf("running %s %s: %w\n%s", name, strings.Join(args, " "), c.err, strings.Join(said.tail(30), "\n"))
	}
	return nil
}

// poll calls ask until it returns nil, and returns the last error once the patience is over, or a finalError immediately.
func poll(ctx context.Context, every, patience time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if _, final := errors.AsType[finalError](err); err == nil || final {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// finalError is one that waiting does not fix.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }
