// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cluster is a local Kubernetes with a node, and the launcher that runs it.
type cluster struct {
	binary, dir string
	state       map[string]string // The output of "localcluster status".
	launcher    *exec.Cmd
	said        *bytes.Buffer // To be read once ended is closed.
	ended       chan struct{}
}

// startCluster starts a cluster and waits until it is ready. It stops with this process, even if that is killed or times
// out: the kernel notifies the launcher, which stops the rest. The kernel ties the notification to the forking thread, so
// that thread is kept.
func startCluster(ctx context.Context, e *environment) (*cluster, error) {
	c := &cluster{binary: filepath.Join(e.dir, "localcluster"), dir: filepath.Join(e.dir, "c"), said: &bytes.Buffer{}, ended: make(chan struct{})}
	c.launcher = exec.Command(c.binary, "up", "--level", "node", "--dir", c.dir)
	c.launcher.Dir, c.launcher.Stdout, c.launcher.Stderr = e.root, c.said, c.said
	c.launcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.launcher.Start()
		started <- err
		if err == nil {
			_ = c.launcher.Wait() // Its output says more.
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	err := poll(ctx, 20*time.Minute, func() error { // It may have to build Kubernetes.
		select {
		case <-c.ended:
			return finalError{fmt.Errorf("the launcher has exited: %s", c.said)}
		default:
		}
		out, err := e.run(ctx, c.binary, "status", "--dir", c.dir)
		if err != nil {
			return err
		}
		c.state = map[string]string{}
		for line := range strings.Lines(out) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			c.state[key] = value
		}
		if c.state["READY"] != "true" || c.state["HOST_IP"] == "" {
			return errors.New("the cluster is not ready")
		}
		return nil
	})
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// stop stops the cluster and waits until it has stopped.
func (c *cluster) stop() {
	_ = c.launcher.Process.Signal(syscall.SIGTERM) // It may already have stopped.
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		_ = c.launcher.Process.Kill() // The next start in that folder removes what is left; processes die with it.
		<-c.ended
	}
}

// run runs a program in the repository and returns its standard output. It hides the variables of a make that runs this
// test.
func (e *environment) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = e.root
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "MAKE") || strings.HasPrefix(variable, "MFLAGS=")
	})
	if e.kubeconfig != "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+e.kubeconfig)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("running %s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// finalError is an error that waiting does not cure.
type finalError struct{ error }

// poll polls until check returns nil, and returns the last error once patience is exhausted.
func poll(ctx context.Context, patience time.Duration, ask func() error) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		var final finalError
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-end.C:
			return fmt.Errorf("%w (after %s)", err, patience)
		case <-tick.C:
		}
	}
}
