// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/rekey/rekey/test/world"
)

// program is a process that this test started. The kernel kills it when this process dies, for whatever reason.
type program struct {
	cmd   *exec.Cmd
	said  string // the file of its output
	ended chan struct{}
	at    time.Time // when it exited; read it only after ended
}

// A single thread that never exits runs all forks: for the kernel, the death of the parent is the death of the thread that
// forked.
var forks = make(chan func())

func fork() {
	runtime.LockOSThread()
	for one := range forks {
		one()
	}
}

// launch starts a program whose output goes to a file. The kernel sends it the signal dying when we die.
func launch(said string, dying syscall.Signal, variables []string, name string, args ...string) (*program, error) {
	output, err := os.OpenFile(said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	p := &program{cmd: exec.Command(name, args...), said: said, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = output, output, world.Root()
	p.cmd.Env = append(os.Environ(), variables...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: dying}
	started := make(chan error)
	forks <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState holds the result
		p.at = time.Now()
		close(p.ended)
	}()
	return p, nil
}

// signal sends a signal, and waits until the program has exited.
func (p *program) signal(signal syscall.Signal, patience time.Duration) error {
	_ = p.cmd.Process.Signal(signal) // it may have exited already
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not exit within %s of %s", p.cmd.Path, patience, signal)
	}
}

func (p *program) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// killed reports whether SIGKILL stopped the program.
func (p *program) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// lastOutput returns the end of the output.
func (p *program) lastOutput() string {
	const most = 3000
	text, _ := os.ReadFile(p.said) // empty output is fine
	return string(text[max(0, len(text)-most):])
}

// runProgram runs one of our programs to completion.
func runProgram(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = world.Root()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s %v: %w\n%s%s", name, args, err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// errPermanent means that waiting longer is pointless.
var errPermanent = errors.New("waiting longer is pointless")

// await calls ask until it returns nil.
func await(ctx context.Context, patience time.Duration, ask func(context.Context) error) error {
	end := time.Now().Add(patience)
	for {
		err := ask(ctx)
		if err == nil || errors.Is(err, errPermanent) {
			return err
		}
		if time.Now().After(end) || !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%w (after %s)", err, patience)
		}
	}
}
