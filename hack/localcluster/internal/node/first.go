// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// Namespaces are those that the node's first process must be started in.
const Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// InitArg is the first argument that makes a program call First.
const InitArg = "node-init"

// FirstProcess returns this program as the first process of a node.
func FirstProcess(settings string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"localcluster", InitArg, settings}}
}

// First runs the node's first process. It returns when a part of the node exits,
// and then the kernel kills the rest.
func First(settingsFile string) error {
	data, err := os.ReadFile(settingsFile)
	if err != nil {
		return fmt.Errorf("reading the node's settings: %w", err)
	}
	var s Settings
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("reading the node's settings: %w", err)
	}
	for _, prepare := range []func(Settings) error{ownMounts, ownNetwork} {
		if err := prepare(s); err != nil {
			return err
		}
	}
	// The first process of a namespace ignores signals that it does not handle.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	failed := make(chan error, 2)
	go func() { failed <- serveNames(s) }()
	go func() {
		running := map[int]string{}
		if err := startPrograms(s, running); err != nil {
			failed <- err
			return
		}
		failed <- reap(running)
	}()
	select {
	case <-ended:
		return nil
	case err := <-failed:
		return err
	}
}

// serveNames resolves Services for pods.
func serveNames(s Settings) error {
	asker, err := pki.Client(s.CA, s.Names)
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(s.NodeIP, "53"))
	if err != nil {
		return fmt.Errorf("listening for DNS queries: %w", err)
	}
	return nameServer{server: s.Server, http: asker}.serve(conn)
}

// hidden are folders whose paths are compiled into programs of a node. The node
// gets its own empty ones instead.
var hidden = []string{"/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers"}

// ownMounts separates this mount namespace from the machine's. Inside it mounts
// propagate, since the kubelet's must reach the containers.
func ownMounts(Settings) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the node's mounts: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts within the node: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting the node's /proc: %w", err)
	}
	for _, dir := range hidden {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating %s: %w", dir, err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("hiding %s: %w", dir, err)
		}
	}
	if err := syscall.Sethostname([]byte(Name)); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	return nil
}

// ownNetwork waits for the cable and configures the node's side.
func ownNetwork(s Settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := until(ctx, "the cable to the host", func() bool {
		_, err := net.InterfaceByName("eth0")
		return err == nil
	}); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", s.NodeIP + "/30", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", s.HostIP},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("enabling forwarding on the node: %w", err)
	}
	return nil
}

func startPrograms(s Settings, running map[int]string) error {
	start := func(name, path string, args ...string) error {
		out, err := os.Create(filepath.Join(s.Logs, name+".log"))
		if err != nil {
			return fmt.Errorf("creating the log of %s: %w", name, err)
		}
		defer func() { _ = out.Close() }()
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", name, err)
		}
		running[cmd.Process.Pid] = name
		return nil
	}
	if err := start("containerd", "containerd", "--config", s.file("containerd.toml")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := until(ctx, "containerd", func() bool { return Import(ctx, s.Place, s.PauseImage) == nil }); err != nil {
		return errors.Join(err, Import(context.Background(), s.Place, s.PauseImage))
	}
	if err := start("kubelet", filepath.Join(s.Assets, "kubelet"),
		"--config="+s.file("kubelet.json"), "--kubeconfig="+s.KubeletConfig,
		"--root-dir="+filepath.Join(s.Run, "kubelet"), "--cert-dir="+s.file("kubelet-pki"),
		"--hostname-override="+Name, "--node-ip="+s.NodeIP); err != nil {
		return err
	}
	return start("kube-proxy", filepath.Join(s.Assets, "kube-proxy"), "--config="+s.file("kube-proxy.json"))
}

// reap waits for every process of the namespace, as its first process must,
// until a part of the node exits. Nothing else waits for children here.
func reap(running map[int]string) error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("waiting for the node's programs: %w", err)
		}
		if name, ours := running[pid]; ours {
			return fmt.Errorf("%s exited with status %d, signal %d", name, status.ExitStatus(), status.Signal())
		}
	}
}

// until polls until there is no error, which describes what it waits for.
func until(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	log.Printf("%s exists", what)
	return nil
}

// Import loads images into the node's containerd, where pods find them.
func Import(ctx context.Context, p Place, archive string) error {
	cmd := exec.CommandContext(ctx, "ctr", "--address", p.Socket(), "--namespace", "k8s.io", "images", "import", archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("importing %s: %w: %s", archive, err, out)
	}
	return nil
}
