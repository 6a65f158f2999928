// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Name is the node's name in its cluster.
const Name = "rekey-node"

// Place holds the folders, the cable and the addresses of one node.
type Place struct {
	// Dir holds the node's files.
	Dir string `json:"dir"`
	// Run holds sockets, whose paths must be short. It is Dir if that is short enough.
	Run string `json:"run"`
	// Link is the host's side of the cable to the node.
	Link string `json:"link"`
	// Cgroup is the name of the control group above all pods.
	Cgroup string `json:"cgroup"`
	// HostIP is the host as the node and its pods see it.
	HostIP string `json:"hostIP"`
	NodeIP string `json:"nodeIP"`
	// CIDR holds all addresses of the cluster.
	CIDR        string `json:"cidr"`
	PodCIDR     string `json:"podCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
}

// longestDir leaves room for the longest socket path that the kubelet creates
// below its root; a socket's path has at most 107 characters.
const longestDir = 50

// Choose chooses a name and free addresses for a node with its files in dir. The
// caller must hold the machine's lock (see LockMachine) until Build is done.
func Choose(dir string) (Place, error) {
	sum := sha256.Sum256([]byte(dir))
	id := hex.EncodeToString(sum[:])[:8]
	place := Place{Dir: dir, Run: dir, Link: "rk" + id, Cgroup: "rekey-" + id}
	if len(dir) > longestDir {
		place.Run = filepath.Join(os.TempDir(), "rekey-"+id)
	}
	second, err := freeNetwork()
	if err != nil {
		return Place{}, err
	}
	address := func(rest string) string { return "10." + strconv.Itoa(second) + "." + rest }
	place.CIDR, place.PodCIDR, place.ServiceCIDR = address("0.0/16"), address("1.0/24"), address("128.0/20")
	place.HostIP, place.NodeIP = address("0.1"), address("0.2")
	return place, nil
}

// peer is the node's side of the cable before it moves to the node.
func (p Place) peer() string { return p.Link + "p" }

// Socket returns the path of containerd's socket.
func (p Place) Socket() string { return filepath.Join(p.Run, "containerd.sock") }

// Build creates the folders, the control groups and the cable.
func (p Place) Build(ctx context.Context) error {
	for _, dir := range []string{p.Dir, p.Run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating the node's folders: %w", err)
		}
	}
	if err := makeCgroups(p.Cgroup); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "add", p.Link, "type", "veth", "peer", "name", p.peer()},
		{"address", "add", p.HostIP + "/30", "dev", p.Link},
		{"link", "set", p.Link, "up"},
		// Pods and Services can be reached from the host, through the node.
		{"route", "add", p.CIDR, "via", p.NodeIP, "dev", p.Link},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Connect moves the node's side of the cable to its first process.
func (p Place) Connect(ctx context.Context, pid int) error {
	return ip(ctx, "link", "set", p.peer(), "netns", strconv.Itoa(pid), "name", "eth0")
}

// Remove removes what Build created. The node's processes must have exited.
func Remove(p Place) error {
	var errs []error
	if _, err := os.Stat("/sys/class/net/" + p.Link); err == nil {
		err := ip(context.Background(), "link", "delete", p.Link)
		// The kernel removes the cable soon after the node has stopped.
		if _, still := os.Stat("/sys/class/net/" + p.Link); still == nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, removeCgroups(p.Cgroup))
	for _, dir := range []string{p.Run, p.Dir} {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing the node's files: %w", err))
		}
	}
	return errors.Join(errs...)
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
