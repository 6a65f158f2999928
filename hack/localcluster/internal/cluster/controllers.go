// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// controllerManager is ready when it has made the first service account.
func (c *Cluster) controllerManager(ctx context.Context) error {
	config, err := c.kubeconfigFor("kube-controller-manager")
	if err != nil {
		return err
	}
	child, err := c.launch("kube-controller-manager", c.program("kube-controller-manager",
		"--kubeconfig="+config,
		"--leader-elect=false",
		"--secure-port=0", // nobody asks for its metrics
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+c.keys().serviceAccounts.Key,
		"--root-ca-file="+c.ca.CertFile(),
	))
	if err != nil {
		return err
	}
	return await(ctx, child, func(ctx context.Context) error {
		_, err := c.admin.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
		return err
	})
}

// scheduler has nothing to show before the first pod; a start that fails ends
// the process, which the launcher notices.
func (c *Cluster) scheduler(context.Context) error {
	config, err := c.kubeconfigFor("kube-scheduler")
	if err != nil {
		return err
	}
	_, err = c.launch("kube-scheduler", c.program("kube-scheduler",
		"--kubeconfig="+config, "--leader-elect=false", "--secure-port=0"))
	return err
}

// kubeconfigFor writes the kubeconfig of a part that RBAC knows by its name.
func (c *Cluster) kubeconfigFor(name string) (string, error) {
	path := c.layout.path(pkiDir, name+".kubeconfig")
	_, err := c.ca.Kubeconfig(path, c.state.Server, pki.Subject{Name: "system:" + name})
	return path, err
}
