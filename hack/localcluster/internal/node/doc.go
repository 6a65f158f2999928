// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node runs a Kubernetes node on this machine without changing the
// machine: containerd, kubelet and kube-proxy run in their own pid, mount,
// network, IPC and UTS namespaces. One virtual cable connects them to the host.
//
// So stopping one process stops everything. When the first process of a pid
// namespace dies, the kernel kills every other process in it, including
// containers and their shims; with the last of them the mounts, bridges, cables
// and packet filter rules disappear. What remains are control groups and files
// with known names, which Remove removes.
package node
