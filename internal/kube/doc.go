// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube is how rekey meets the Kubernetes API: what the cache holds, the indexes over it, the watches that enqueue
// reconciles, the clients that know when a cache cannot be believed, the API server's clock, and which cluster this is.
//
// It knows no kind. What it has to know of one is in a Kind, and the table of all of them is controllers/kinds.go.
package kube
