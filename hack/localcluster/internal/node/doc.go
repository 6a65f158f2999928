// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node runs a Kubernetes node on this machine without touching the
// machine: containerd, kubelet and kube-proxy live in pid, mount, network, IPC
// and UTS namespaces of their own. One virtual cable leads to the host.
//
// So everything ends by ending one process. When the first process of a pid
// namespace dies, however that happens, the kernel kills every other process in
// it, containers and their shims included; with the last of them go the mounts,
// the bridges, the cables and the packet filter rules. What is left are control
// groups and files, both of known name, which Remove takes away.
package node
