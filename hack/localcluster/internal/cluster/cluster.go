// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
	"github.com/rekey/rekey/hack/localcluster/internal/pki"
	"github.com/rekey/rekey/hack/localcluster/internal/process"
)

// Level is how much of a cluster to start.
type Level string

// The levels; each includes the one before.
const (
	LevelAPI     Level = "api"     // etcd and the API server
	LevelControl Level = "control" // adds controller manager and scheduler
	LevelNode    Level = "node"    // adds a node that runs pods
)

// Options describe the cluster to start.
type Options struct {
	Dir   string
	Level Level
	// Assets is the folder with the Kubernetes programs.
	Assets string
	// PauseImage is an archive of the image that holds a pod's namespaces.
	PauseImage string
	// APIServerArgs are `key=value`; a key that has a default overrides it.
	APIServerArgs []string
	// Log receives the progress.
	Log io.Writer
}

// Cluster is a running cluster whose launcher is this process.
type Cluster struct {
	opts    Options
	layout  layout
	lock    *os.File
	group   *process.Group
	ca      *pki.Authority
	admin   client
	net     network
	state   State
	started time.Time
}

const (
	startLimit = 3 * time.Minute
	// grace is short because there is nothing to save. An API server without its
	// node would wait for the node's connections until its own limit.
	grace = time.Second
)

// Start removes what an interrupted launcher left in the folder and starts a
// cluster there. If it fails, nothing of the cluster is left running.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster's folder: %w", err)
	}
	opts.Dir = dir
	c := &Cluster{opts: opts, layout: layout{dir: dir}, group: process.NewGroup(), started: time.Now()}
	if err := c.claim(); err != nil {
		c.group.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.bringUp(ctx); err != nil {
		c.KeepLogs()
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// claim locks the folder and empties it.
func (c *Cluster) claim() error {
	if err := c.layout.prepare(); err != nil {
		return err
	}
	lock, err := c.layout.lock()
	if err != nil {
		return err
	}
	c.lock = lock
	if err := clean(c.layout, c.opts.Log); err != nil {
		_ = lock.Close()
		return err
	}
	return nil
}

func (c *Cluster) bringUp(ctx context.Context) error {
	if err := os.MkdirAll(c.layout.path(logsDir), 0o755); err != nil {
		return fmt.Errorf("creating the folder for logs: %w", err)
	}
	self, err := process.RecordOf("launcher", os.Getpid())
	if err != nil {
		return err
	}
	c.state = State{Level: c.opts.Level, Assets: c.opts.Assets, Launcher: self, Kubeconfig: c.layout.path(kubeconfigFile)}
	if err := c.state.save(c.layout); err != nil {
		return err
	}
	for _, step := range c.steps() {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		sayf(c.opts.Log, "  %5.1f s  %s", time.Since(c.started).Seconds(), step.name)
	}
	c.state.Ready = true
	return c.state.save(c.layout)
}

type step struct {
	name string
	do   func(context.Context) error
}

func (c *Cluster) steps() []step {
	steps := []step{}
	if c.opts.Level == LevelNode {
		steps = append(steps, step{"choose the node's addresses", c.placeNode})
	}
	steps = append(steps,
		step{"certificates", c.certificates},
		step{"etcd", c.etcd},
		step{"kube-apiserver", c.apiServer},
	)
	if c.opts.Level == LevelControl || c.opts.Level == LevelNode {
		steps = append(steps, step{"kube-controller-manager and kube-scheduler", c.controllers})
	}
	if c.opts.Level == LevelNode {
		steps = append(steps, step{"node", c.node})
	}
	return steps
}

// State returns what `status` shows.
func (c *Cluster) State() State { return c.state }

// Failed yields an error when a part of the cluster exits unexpectedly.
func (c *Cluster) Failed() <-chan error { return c.group.Failed() }

// Stop stops everything and empties the folder.
func (c *Cluster) Stop() error {
	err := c.group.Stop(grace)
	c.group.Close()
	err = errors.Join(err, clean(c.layout, c.opts.Log), c.lock.Close())
	return err
}

// KeepLogs copies the logs of a failed cluster before they are removed.
func (c *Cluster) KeepLogs() {
	kept, err := os.MkdirTemp("", "localcluster-logs-")
	if err != nil {
		sayf(c.opts.Log, "the logs of the failed cluster are lost: %v", err)
		return
	}
	if err := os.CopyFS(filepath.Join(kept, logsDir), os.DirFS(c.layout.path(logsDir))); err != nil {
		sayf(c.opts.Log, "copying the logs of the failed cluster: %v", err)
		return
	}
	sayf(c.opts.Log, "the logs of the failed cluster are in %s", kept)
}

// sayf reports progress. A closed reader is ignored.
func sayf(to io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(to, format+"\n", args...)
}

// launch starts a program and records it.
func (c *Cluster) launch(name string, cmd *exec.Cmd) (*process.Child, error) {
	if cmd.Env == nil {
		cmd.Env = withoutProxy()
	}
	child, err := c.group.Start(name, c.layout.log(name), cmd)
	if err != nil {
		return nil, err
	}
	c.state.Processes = append(c.state.Processes, child.Record)
	return child, c.state.save(c.layout)
}

// program returns a command from the assets folder.
func (c *Cluster) program(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(c.opts.Assets, name), args...)
}

// clean stops and removes what the folder's state file names. The caller holds
// the lock, so no launcher is running there.
func clean(l layout, log io.Writer) error {
	state, err := Load(l.dir)
	if errors.Is(err, ErrNone) {
		return l.wipe()
	}
	if err != nil {
		return fmt.Errorf("%w; its processes cannot be distinguished from others", err)
	}
	var errs []error
	for _, left := range slices.Backward(state.Processes) {
		if !left.Alive() {
			continue
		}
		sayf(log, "stopping %s (pid %d), which an interrupted launcher left", left.Name, left.PID)
		errs = append(errs, left.End(grace))
	}
	if state.Node != nil {
		errs = append(errs, node.Remove(*state.Node))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the state file stays, so that the next start retries
	}
	return l.wipe()
}
