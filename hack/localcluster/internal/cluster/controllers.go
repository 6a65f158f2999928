// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// controllers starts the controller manager and the scheduler. At the node level
// the node starts meanwhile; otherwise the first service account shows that the
// controllers work. The scheduler shows nothing before the first pod; the launcher
// notices if it exits.
func (c *Cluster) controllers(ctx context.Context) error {
	manager, err := c.kubeconfigFor("kube-controller-manager")
	if err != nil {
		return err
	}
	child, err := c.launch("kube-controller-manager", c.program("kube-controller-manager",
		"--kubeconfig="+manager,
		"--leader-elect=false",
		"--secure-port=0", // its metrics are not used
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

// kubeconfigFor writes the kubeconfig of a part, whose name RBAC knows.
func (c *Cluster) kubeconfigFor(name string) (string, error) {
	path := c.layout.path(pkiDir, name+".kubeconfig")
	_, err := c.ca.Kubeconfig(path, c.state.Server, pki.Subject{Name: "system:" + name})
	return path, err
}
