// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// network holds the addresses at which the parts of the control plane listen.
type network struct {
	bindIP       net.IP
	serviceCIDR  string
	serviceFirst net.IP // the address of the Service `kubernetes`
	apiPort      int
	etcdPort     int
}

// loopbackServices are addresses that receive no packet: without a node there
// are no Services.
const loopbackServices = "10.96.0.0/16"

// masters is the group with all rights in RBAC.
var masters = []string{"system:masters"}

// keys are the key pairs that the programs read from files.
type keys struct{ server, etcd, etcdClient, kubeletClient, serviceAccounts pki.Pair }

func (c *Cluster) keys() keys {
	pair := func(name string) pki.Pair {
		return pki.Pair{Cert: c.layout.path(pkiDir, name+".crt"), Key: c.layout.path(pkiDir, name+".key")}
	}
	sa := pair("service-accounts")
	sa.Cert = c.layout.path(pkiDir, "service-accounts.pub")
	return keys{
		server: pair("kube-apiserver"), etcd: pair("etcd"), etcdClient: pair("etcd-client"),
		kubeletClient: pair("kubelet-client"), serviceAccounts: sa,
	}
}

func (c *Cluster) certificates(context.Context) error {
	if err := c.chooseAddresses(); err != nil {
		return err
	}
	ca, err := pki.New(c.layout.path(pkiDir))
	if err != nil {
		return err
	}
	c.ca = ca
	loopback := net.IPv4(127, 0, 0, 1)
	subjects := map[string]pki.Subject{
		"kube-apiserver": {
			Name: "kube-apiserver",
			DNS: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local"},
			IPs: []net.IP{loopback, c.net.bindIP, c.net.serviceFirst},
		},
		"etcd":           {Name: "etcd", DNS: []string{"localhost"}, IPs: []net.IP{loopback}},
		"etcd-client":    {Name: "etcd-client"},
		"kubelet-client": {Name: "kubelet-client", Groups: masters},
	}
	for file, subject := range subjects {
		if _, err := ca.Issue(file, subject); err != nil {
			return err
		}
	}
	if _, err := ca.SigningKey("service-accounts"); err != nil {
		return err
	}
	c.state.Server = "https://" + net.JoinHostPort(c.net.bindIP.String(), strconv.Itoa(c.net.apiPort))
	pair, err := ca.Kubeconfig(c.state.Kubeconfig, c.state.Server, pki.Subject{Name: "admin", Groups: masters})
	if err != nil {
		return err
	}
	c.admin, err = newClient(c.state.Server, ca, pair)
	return errors.Join(err, c.state.save(c.layout))
}

// chooseAddresses chooses where to listen: on loopback, or, if pods must reach
// the API server, on the address that the node has for this host.
func (c *Cluster) chooseAddresses() error {
	c.net.bindIP, c.net.serviceCIDR = net.IPv4(127, 0, 0, 1), loopbackServices
	if place := c.state.Node; place != nil {
		c.net.bindIP, c.net.serviceCIDR = net.ParseIP(place.HostIP), place.ServiceCIDR
	}
	first, _, err := net.ParseCIDR(c.net.serviceCIDR)
	if err != nil {
		return fmt.Errorf("reading the range of Services: %w", err)
	}
	c.net.serviceFirst = net.IPv4(first.To4()[0], first.To4()[1], first.To4()[2], 1)
	c.net.apiPort, c.net.etcdPort, err = freePorts(c.net.bindIP)
	return err
}

// freePorts returns two free ports, held at the same time so that they differ.
func freePorts(api net.IP) (int, int, error) {
	first, err := net.Listen("tcp", net.JoinHostPort(api.String(), "0"))
	if err != nil {
		return 0, 0, fmt.Errorf("finding a free port on %s: %w", api, err)
	}
	defer func() { _ = first.Close() }()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer func() { _ = second.Close() }()
	return port(first), port(second), nil
}

func port(l net.Listener) int {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.Port
}

func (c *Cluster) etcd(ctx context.Context) error {
	url := "https://127.0.0.1:" + strconv.Itoa(c.net.etcdPort)
	keys := c.keys()
	child, err := c.launch("etcd", c.program("etcd",
		"--data-dir="+c.layout.path(etcdDir),
		"--listen-client-urls="+url,
		"--advertise-client-urls="+url,
		"--listen-peer-urls=http://127.0.0.1:0",
		"--cert-file="+keys.etcd.Cert, "--key-file="+keys.etcd.Key,
		"--client-cert-auth", "--trusted-ca-file="+c.ca.CertFile(),
		"--unsafe-no-fsync", // the data do not outlive the cluster anyway
		"--logger=zap", "--log-level=warn",
	))
	if err != nil {
		return err
	}
	asker, err := newClient(url, c.ca, keys.etcdClient)
	if err != nil {
		return err
	}
	return await(ctx, child, func(ctx context.Context) error {
		_, err := asker.get(ctx, "/health")
		return err
	})
}

func (c *Cluster) apiServer(ctx context.Context) error {
	args, err := override(c.apiServerArgs(), c.opts.APIServerArgs)
	if err != nil {
		return err
	}
	child, err := c.launch("kube-apiserver", c.program("kube-apiserver", args...))
	if err != nil {
		return err
	}
	return await(ctx, child, func(ctx context.Context) error {
		_, err := c.admin.get(ctx, "/readyz")
		return err
	})
}

func (c *Cluster) apiServerArgs() []string {
	keys := c.keys()
	reconciler := "lease"
	if c.net.bindIP.IsLoopback() {
		// Without a node, nothing reads the endpoints of the Service kubernetes, and Kubernetes 1.37 refuses a loopback address in them.
		reconciler = "none"
	}
	return []string{
		"--endpoint-reconciler-type=" + reconciler,
		"--bind-address=" + c.net.bindIP.String(),
		"--advertise-address=" + c.net.bindIP.String(),
		"--secure-port=" + strconv.Itoa(c.net.apiPort),
		"--tls-cert-file=" + keys.server.Cert,
		"--tls-private-key-file=" + keys.server.Key,
		"--client-ca-file=" + c.ca.CertFile(),
		"--etcd-servers=https://127.0.0.1:" + strconv.Itoa(c.net.etcdPort),
		"--etcd-cafile=" + c.ca.CertFile(),
		"--etcd-certfile=" + keys.etcdClient.Cert,
		"--etcd-keyfile=" + keys.etcdClient.Key,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + c.net.serviceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + keys.serviceAccounts.Cert,
		"--service-account-signing-key-file=" + keys.serviceAccounts.Key,
		"--kubelet-certificate-authority=" + c.ca.CertFile(),
		"--kubelet-client-certificate=" + keys.kubeletClient.Cert,
		"--kubelet-client-key=" + keys.kubeletClient.Key,
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		"--profiling=false",
	}
}

// override replaces the defaults of a key by the caller's `key=value`. A repeated
// key keeps all its values, as the programs allow for some flags.
func override(args, wanted []string) ([]string, error) {
	for _, entry := range wanted {
		key, _, ok := strings.Cut(strings.TrimPrefix(entry, "--"), "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("the argument %q is not of the form key=value", entry)
		}
		args = slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--"+key+"=") })
	}
	for _, entry := range wanted {
		args = append(args, "--"+strings.TrimPrefix(entry, "--"))
	}
	return args, nil
}
