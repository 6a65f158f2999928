// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// placeNode chooses the node's place. It records it before creating anything, so
// that the next launcher can remove it.
func (c *Cluster) placeNode(ctx context.Context) error {
	lock, err := node.LockMachine()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	place, err := node.Choose(c.layout.path(nodeDir))
	if err != nil {
		return err
	}
	c.state.Node = &place
	if err := c.state.save(c.layout); err != nil {
		return err
	}
	return place.Build(ctx)
}

// node starts the node and waits until pods can run on it.
func (c *Cluster) node(ctx context.Context) error {
	settings, err := c.nodeSettings()
	if err != nil {
		return err
	}
	file, err := settings.Write()
	if err != nil {
		return err
	}
	cmd := node.FirstProcess(file)
	cmd.Env = withoutProxy()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: node.Namespaces}
	child, err := c.launch("node", cmd)
	if err != nil {
		return err
	}
	if err := c.state.Node.Connect(ctx, child.PID); err != nil {
		return err
	}
	// Pods also need the service account that the controllers create.
	return await(ctx, child, func(ctx context.Context) error {
		return errors.Join(c.admin.nodeReady(ctx, node.Name), c.hasDefaultAccount(ctx))
	})
}

func (c *Cluster) nodeSettings() (node.Settings, error) {
	place := *c.state.Node
	serving, err := c.ca.Issue("kubelet", pki.Subject{
		Name: "kubelet", DNS: []string{node.Name}, IPs: []net.IP{net.ParseIP(place.NodeIP)},
	})
	if err != nil {
		return node.Settings{}, err
	}
	kubelet := c.layout.path(pkiDir, "kubelet.kubeconfig")
	if _, err := c.ca.Kubeconfig(kubelet, c.state.Server, pki.Subject{
		Name: "system:node:" + node.Name, Groups: []string{"system:nodes"},
	}); err != nil {
		return node.Settings{}, err
	}
	proxy, err := c.kubeconfigFor("kube-proxy")
	if err != nil {
		return node.Settings{}, err
	}
	names, err := c.ca.Issue("name-server", pki.Subject{Name: "system:kube-proxy"})
	if err != nil {
		return node.Settings{}, err
	}
	return node.Settings{
		Place: place, Assets: c.opts.Assets, PauseImage: c.opts.PauseImage, Logs: c.layout.path(logsDir),
		CA: c.ca.CertFile(), Kubelet: serving,
		KubeletConfig: kubelet, ProxyConfig: proxy, Server: c.state.Server, Names: names,
	}, nil
}
