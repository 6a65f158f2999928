// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// demo is one run.
type demo struct {
	*cluster // nil until there is one

	options  options
	out      *printer
	dir      string // scratch, removed at the end
	launcher launcher
	programs programs
	shipped  []*unstructured.Unstructured
	place    place
	db       *database
	said     said
	past     *past
}

func newDemo(opts options, out *printer) (*demo, error) {
	dir, err := os.MkdirTemp("", "rekey-demo-") // short: paths of sockets have a limit
	if err != nil {
		return nil, fmt.Errorf("creating a scratch folder: %w", err)
	}
	d := &demo{options: opts, out: out, dir: dir, past: newPast()}
	d.programs = programs{source: opts.source, dir: dir}
	d.launcher = launcher{binary: d.programs.binary("localcluster"), source: opts.source, dir: filepath.Join(dir, "c")}
	d.said.app.line, d.said.server.line = d.appSaid, d.serverSaid
	return d, nil
}

// step is one step of the preparation.
type step struct {
	name string
	run  func(ctx context.Context, progress *transcript) error
}

// prepare starts everything and waits until the operator leads.
func (d *demo) prepare(ctx context.Context) error {
	steps := d.steps()
	d.out.printf("%s: the whole life of a client certificate and a PostgreSQL password, in about four minutes.", d.out.paint(bold, "rekey demo"))
	d.out.printf("The first run also builds Kubernetes and the tools, which takes about ten minutes on two cores.\n")
	for i, s := range steps {
		if err := d.out.step(i+1, len(steps), s.name, func(progress *transcript) error { return s.run(ctx, progress) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) steps() []step {
	build := []step{
		{"build operator, application and server", d.programs.buildOurs},
		{"read the shipped manifests", d.readShipped},
	}
	rest := []step{
		{"start PostgreSQL with TLS", d.startPostgreSQL},
		{"install rekey with the shipped roles", func(ctx context.Context, _ *transcript) error { return d.place.installOperator(ctx, d.shipped) }},
	}
	if d.options.kubeconfig != "" {
		return append(append(build, step{"connect to the cluster of KUBECONFIG", d.useExisting}), rest...)
	}
	local := []step{
		{"build the local cluster's launcher", d.programs.buildLauncher},
		{"build Kubernetes (5 to 8 minutes the first time)", d.buildKubernetes},
		{"start Kubernetes, load the images into its node", d.startLocal},
	}
	return append(append(build, local...), rest...)
}

func (d *demo) readShipped(context.Context, *transcript) error {
	var err error
	d.shipped, err = shipped(d.options.source)
	return err
}

// buildKubernetes builds the parts of the local cluster, unless they are cached.
func (d *demo) buildKubernetes(ctx context.Context, progress *transcript) error {
	var folder transcript
	return work(ctx, d.options.source, nil, &folder, progress, d.launcher.binary, "assets",
		"--source", filepath.Join(d.options.source, "hack", "localcluster"), "--cache", filepath.Join(d.options.source, ".cache", "kube"))
}

// startLocal starts a cluster with a node, or without one if this machine cannot run it.
func (d *demo) startLocal(ctx context.Context, progress *transcript) error {
	started, err := d.launcher.start(ctx, d.options.level, progress)
	reason, none := errors.AsType[noNodeError](err)
	if none || d.options.level == levelControl {
		d.noNode(reason.why)
	}
	if none {
		d.options.level = levelControl
		started, err = d.launcher.start(ctx, levelControl, &transcript{})
	}
	if err != nil {
		return err
	}
	d.cluster = started
	if d.options.level == levelNode {
		d.place = newPods(started, &d.said)
		return d.programs.load(ctx, d.launcher, progress)
	}
	d.place = newProcesses(started, d.programs, &d.said)
	return nil
}

// startPostgreSQL starts PostgreSQL on an address that the programs can reach.
func (d *demo) startPostgreSQL(ctx context.Context, _ *transcript) error {
	listen := d.hostIP
	if listen == "" {
		listen = "127.0.0.1"
	}
	var err error
	d.db, err = startDatabase(ctx, listen)
	return err
}

// cleanUp stops everything that was started, in reverse order.
func (d *demo) cleanUp() {
	d.past.mu.Lock()
	d.past.over = true
	d.past.mu.Unlock()
	if d.cluster != nil && d.local == nil {
		d.leaveExisting()
	}
	if d.place != nil {
		d.place.stop()
	}
	if d.db != nil {
		d.db.Stop()
	}
	if d.cluster != nil {
		d.stop()
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.out.printf("removing the scratch folder: %v", err)
	}
}
