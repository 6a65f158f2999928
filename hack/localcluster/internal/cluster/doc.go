// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs one Kubernetes cluster in one scratch folder.
//
// A launcher process holds the folder's lock and is the parent of everything;
// the state file records what it started. The next launcher finds in that file
// what an interrupted one left, stops it, and starts from scratch: a cluster's
// data never outlive its launcher.
package cluster
