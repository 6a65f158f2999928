// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/assets"
	"github.com/rekey/rekey/hack/localcluster/internal/cluster"
)

func upCommand(ctx context.Context, args []string) error {
	var o options
	rest, err := o.parse("up", args, withBuild|withDir|withLevel|withDetach)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("up takes no argument, got %q", rest)
	}
	opts, err := o.clusterOptions(ctx)
	if err != nil {
		return err
	}
	if o.detach {
		return detach(ctx, &o)
	}
	c, err := cluster.Start(ctx, opts)
	if err != nil {
		return err
	}
	printState(o.dir, c.State())
	select {
	case <-ctx.Done():
		return c.Stop()
	case err := <-c.Failed():
		c.KeepLogs()
		return errors.Join(err, c.Stop())
	}
}

// detach starts this program again in the background and waits until its
// cluster is ready.
func detach(ctx context.Context, o *options) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("creating the cluster's folder: %w", err)
	}
	logFile := filepath.Join(o.dir, "launcher.log")
	out, err := os.Create(logFile)
	if err != nil {
		return fmt.Errorf("creating the launcher's log: %w", err)
	}
	defer func() { _ = out.Close() }()
	args := []string{"localcluster", "up", "--source", o.source, "--cache", o.cache, "--dir", o.dir, "--level", o.level}
	for _, arg := range o.apiServerArgs {
		args = append(args, "--apiserver-arg", arg)
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: os.Environ(), Stdout: out, Stderr: out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the launcher in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(logFile)
			// The launcher's exit code is not passed on; its output explains the failure.
			return fmt.Errorf("the launcher exited early (%s):\n%s", err.Error(), text)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), cmd.Process.Signal(syscall.SIGTERM), <-ended)
		case <-tick.C:
		}
		state, err := cluster.Load(o.dir)
		if err == nil && state.Ready && state.Launcher.PID == cmd.Process.Pid {
			printState(o.dir, state)
			return nil
		}
	}
}

func downCommand(_ context.Context, args []string) error {
	var o options
	if _, err := o.parse("down", args, withDir); err != nil {
		return err
	}
	if err := cluster.Down(o.dir, os.Stderr); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "stopped: no cluster is left in", o.dir)
	return nil
}

func runCommand(ctx context.Context, args []string) error {
	var o options
	command, err := o.parse("run", args, withBuild|withDir|withLevel)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return errors.New("run needs a command to run after --")
	}
	if !o.dirGiven {
		if o.dir, err = os.MkdirTemp("", "rk-"); err != nil {
			return fmt.Errorf("creating a scratch folder: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.dir) }()
	}
	opts, err := o.clusterOptions(ctx)
	if err != nil {
		return err
	}
	c, err := cluster.Start(ctx, opts)
	if err != nil {
		return err
	}
	return errors.Join(runIn(c, o.dir, command), c.Stop())
}

// runIn runs the command and passes signals on to it: the command decides when to
// exit, and the cluster outlives it.
func runIn(c *cluster.Cluster, dir string, command []string) error {
	state := c.State()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+state.Kubeconfig,
		assets.EnvDir+"="+state.Assets, "LOCALCLUSTER_DIR="+dir)
	if state.Node != nil {
		cmd.Env = append(cmd.Env, "HOST_IP="+state.Node.HostIP)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	failed := c.Failed()
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-signals:
			// If it has exited meanwhile, the loop sees that next.
			_ = cmd.Process.Signal(sig)
		case err := <-failed:
			fmt.Fprintln(os.Stderr, "localcluster: the cluster broke:", err)
			c.KeepLogs()
			_ = cmd.Process.Signal(syscall.SIGTERM)
			return errors.Join(err, <-ended)
		}
	}
}
