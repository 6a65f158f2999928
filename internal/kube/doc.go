// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube is the layer between rekey and the Kubernetes API: what the cache holds, its indexes, the watches that enqueue
// reconciles, the clients that bypass a stale cache, the API server's clock, and the identity of the cluster.
//
// It depends on no particular kind: what it needs to know about one is in a Kind, and controllers/kinds.go is the table of all.
package kube
