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

// program is a process that we started. The kernel ends it when we die, in whatever way.
type program struct {
	cmd   *exec.Cmd
	said  string // the file of its output
	ended chan struct{}
	at    time.Time // when it ended; to be read after ended
}

// forks are carried out by one thread that never ends: what the kernel calls the death of the parent is that of the
// thread that forked.
var forks = make(chan func())

func fork() {
	runtime.LockOSThread()
	for one := range forks {
		one()
	}
}

// launch starts a program whose output goes to a file. What it gets when we die is the signal.
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
		_ = p.cmd.Wait() // ProcessState says how it ended
		p.at = time.Now()
		close(p.ended)
	}()
	return p, nil
}

// signal sends one, and waits until the program has ended.
func (p *program) signal(signal syscall.Signal, patience time.Duration) error {
	_ = p.cmd.Process.Signal(signal) // it may have ended already
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s of %s", p.cmd.Path, patience, signal)
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

// killed tells whether the program has ended by SIGKILL.
func (p *program) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// words are the last of the output.
func (p *program) words() string {
	const most = 3000
	text, _ := os.ReadFile(p.said) // no words are an answer too
	return string(text[max(0, len(text)-most):])
}

// work runs a program of ours to its end.
func work(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = world.Root()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s %v: %w\n%s%s", name, args, err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// errNever is what no waiting mends.
var errNever = errors.New("waiting is of no use")

// await asks until the answer is nil.
func await(ctx context.Context, patience time.Duration, ask func(context.Context) error) error {
	end := time.Now().Add(patience)
	for {
		err := ask(ctx)
		if err == nil || errors.Is(err, errNever) {
			return err
		}
		if time.Now().After(end) || !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%w (after %s)", err, patience)
		}
	}
}
