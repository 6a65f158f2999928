// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Levels of the local cluster.
const (
	levelNode    = "node"
	levelControl = "control"
)

// cluster is the Kubernetes that the demo runs on.
type cluster struct {
	kubeconfig string
	config     *rest.Config
	kube       client.Client
	clientset  *kubernetes.Clientset
	// hostIP is this machine's address as pods see it; empty without a local node.
	hostIP string
	// kubectl is the command line that a user types.
	kubectl string
	// local is the launcher of a local cluster; nil for an existing one.
	local *child
}

// launcher is the program that runs local clusters.
type launcher struct {
	binary, source, dir string
}

func (l launcher) args(command string, more ...string) []string {
	args := []string{command, "--dir", l.dir}
	if command != "status" && command != "load" {
		args = append(args, "--source", filepath.Join(l.source, "hack", "localcluster"), "--cache", filepath.Join(l.source, ".cache", "kube"))
	}
	return append(args, more...)
}

// nodeUnsupported is what the launcher prints if this machine cannot run a node.
const nodeUnsupported = "the node level does not work here"

// noNodeError reports why this machine cannot run a node.
type noNodeError struct{ why string }

func (e noNodeError) Error() string { return e.why }

// start starts a cluster and waits until it is ready.
func (l launcher) start(ctx context.Context, level string, progress *transcript) (*cluster, error) {
	var out transcript
	process, err := launch("the local Kubernetes", program(l.source, nil, &out, progress, l.binary, l.args("up", "--level", level)...))
	if err != nil {
		return nil, err
	}
	var state map[string]string
	err = poll(ctx, 300*time.Millisecond, 20*time.Minute, func(ctx context.Context) error {
		if process.ended() {
			said := progress.String()
			if _, why, found := strings.Cut(said, nodeUnsupported); found {
				return finalError{noNodeError{why: strings.TrimLeft(why, ":\n")}}
			}
			return finalError{fmt.Errorf("starting Kubernetes: %w: %s", process.err, strings.Join(progress.tail(30), "\n"))}
		}
		state, err = l.status(ctx)
		return err
	})
	if err != nil {
		process.stop(time.Minute)
		return nil, err
	}
	c, err := connect(state["KUBECONFIG"])
	if err != nil {
		process.stop(time.Minute)
		return nil, err
	}
	c.local, c.hostIP = process, state["HOST_IP"]
	c.kubectl = "KUBECONFIG=" + c.kubeconfig + " " + filepath.Join(state["KUBEBUILDER_ASSETS"], "kubectl")
	return c, nil
}

// status returns the KEY=value lines of a ready cluster as a map.
func (l launcher) status(ctx context.Context) (map[string]string, error) {
	var out bytes.Buffer
	var mute transcript
	if err := work(ctx, l.source, nil, &out, &mute, l.binary, l.args("status")...); err != nil {
		return nil, err
	}
	state := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			state[key] = value
		}
	}
	if state["READY"] != "true" {
		return nil, errors.New("the cluster is not ready yet")
	}
	return state, nil
}

// connect creates clients for the cluster of a kubeconfig.
func connect(kubeconfig string) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 100, 200
	config.WarningHandler = rest.NoWarnings{}
	c := &cluster{kubeconfig: kubeconfig, config: config, kubectl: "kubectl"}
	if c.kube, err = client.New(config, client.Options{Scheme: objectKinds}); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	if c.clientset, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return c, nil
}

// stop stops a local cluster.
func (c *cluster) stop() {
	if c.local != nil {
		c.local.stop(time.Minute)
	}
}
