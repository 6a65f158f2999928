// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// processes is the place outside the cluster: operator and programs run on this machine. The operator has the rights of its
// service account, as a pod would, and the programs read folders with the layout of a Secret volume.
type processes struct {
	*cluster
	programs programs
	said     *said
	volumes  *volumes
	health   string // address of the operator's readiness endpoint
	command  []string
	operator *child
	others   []*child
}

func newProcesses(c *cluster, p programs, s *said) *processes {
	return &processes{cluster: c, programs: p, said: s, volumes: newVolumes(c.kube, filepath.Join(p.dir, "volumes"))}
}

func (p *processes) installOperator(ctx context.Context, shipped []*unstructured.Unstructured) error {
	useful := slices.DeleteFunc(slices.Clone(shipped), runsOnNode)
	if err := apply(ctx, p.kube, useful...); err != nil {
		return err
	}
	deployment, _, err := operatorDeployment(shipped)
	if err != nil {
		return err
	}
	kubeconfig, err := p.accountKubeconfig(ctx, deployment.Spec.Template.Spec.ServiceAccountName)
	if err != nil {
		return err
	}
	if p.health, err = freeAddress(); err != nil {
		return err
	}
	// The shipped flags, except for addresses that only a pod has; here the database listens on loopback.
	p.command = []string{"KUBECONFIG=" + kubeconfig, "POD_NAMESPACE=" + operatorNamespace, p.programs.binary("rekey")}
	for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
		if !strings.Contains(arg, "bind-address") {
			p.command = append(p.command, arg)
		}
	}
	p.command = append(p.command, "--metrics-bind-address=0", "--health-probe-bind-address="+p.health, "--allow-loopback")
	return p.startOperator(ctx, nil)
}

func (p *processes) startOperator(ctx context.Context, before map[string]bool) error {
	var err error
	p.operator, err = launch("the operator", program(p.programs.dir, p.command[:2], &p.said.operator, &p.said.operator, p.command[2], p.command[3:]...))
	if err != nil {
		return err
	}
	err = poll(ctx, 100*time.Millisecond, podPatience, func(ctx context.Context) error {
		if p.operator.ended() {
			return finalError{fmt.Errorf("the operator has exited: %w", p.operator.err)}
		}
		return answers(ctx, "http://"+p.health+"/readyz")
	})
	if err != nil {
		return err
	}
	return awaitLeader(ctx, p.kube, before, podPatience)
}

func (p *processes) restartOperator(ctx context.Context) error {
	before, err := leaders(ctx, p.kube)
	if err != nil {
		return err
	}
	p.operator.stop(30 * time.Second)
	return p.startOperator(ctx, before)
}

func (p *processes) startServer(ctx context.Context) (string, error) {
	volume, err := p.volumes.mount(ctx, serverNamespace, serverSecret)
	if err != nil {
		return "", err
	}
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	health, err := freeAddress()
	if err != nil {
		return "", err
	}
	err = p.run("server", &p.said.server, "--identity="+volume, "--listen="+address, "--health="+health)
	if err != nil {
		return "", err
	}
	return address, poll(ctx, 100*time.Millisecond, podPatience, func(ctx context.Context) error { return answers(ctx, "http://"+health+"/") })
}

func (p *processes) startApp(ctx context.Context, server string) error {
	identity, err := p.volumes.mount(ctx, appNamespace, appSecret)
	if err != nil {
		return err
	}
	database, err := p.volumes.mount(ctx, appNamespace, loginSecret)
	if err != nil {
		return err
	}
	return p.run("app", &p.said.app, "--identity="+identity, "--database="+database, "--server="+server, "--server-name="+serverName)
}

func (p *processes) run(name string, to *transcript, args ...string) error {
	started, err := launch(name, program(p.programs.dir, nil, to, to, p.programs.binary(name), args...))
	if err != nil {
		return err
	}
	p.others = append(p.others, started)
	return nil
}

func (p *processes) stop() {
	for _, program := range slices.Backward(p.others) {
		program.stop(5 * time.Second)
	}
	if p.operator != nil {
		p.operator.stop(30 * time.Second)
	}
	p.volumes.stop()
}

// freeAddress returns an address with a free port of the loopback interface.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	if address == "" {
		return "", errors.New("finding a free port: the listener has no address")
	}
	return address, nil
}
