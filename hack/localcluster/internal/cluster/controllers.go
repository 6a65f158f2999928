// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// controllers starts the controller manager and the scheduler. Where a node
// follows, it starts meanwhile; else the first service account shows that the
// controllers are at work. The scheduler has nothing to show before the first
// pod; if it ends the launcher notices.
func (c *Cluster) controllers(ctx context.Context) error {
	manager, err := c.kubeconfigFor("kube-controller-manager")
	if err != nil {
		return err
	}
	child, err := c.launch("kube-controller-manager", c.program("kube-controller-manager",
		"--kubeconfig="+manager,
		"--leader-elect=false",
		"--secure-port=0", // nobody asks for its metrics
		"--use-service-account-credentials=true",
		"--kube-api-qps=300", "--kube-api-burst=300", // with the default the start takes seconds longer
		"--service-account-private-key-file="+c.keys().serviceAccounts.Key,
		"--root-ca-file="+c.ca.CertFile(),
	))
	if err != nil {
		return err
	}
	scheduler, err := c.kubeconfigFor("kube-scheduler")
	if err != nil {
		return err
	}
	if _, err := c.launch("kube-scheduler", c.program("kube-scheduler",
		"--kubeconfig="+scheduler, "--leader-elect=false", "--secure-port=0")); err != nil {
		return err
	}
	if c.opts.Level == LevelNode {
		return nil
	}
	return await(ctx, child, c.hasDefaultAccount)
}

func (c *Cluster) hasDefaultAccount(ctx context.Context) error {
	_, err := c.admin.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	return err
}

// kubeconfigFor writes the kubeconfig of a part that RBAC knows by its name.
func (c *Cluster) kubeconfigFor(name string) (string, error) {
	path := c.layout.path(pkiDir, name+".kubeconfig")
	_, err := c.ca.Kubeconfig(path, c.state.Server, pki.Subject{Name: "system:" + name})
	return path, err
}
