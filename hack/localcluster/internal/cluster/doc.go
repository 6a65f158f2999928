// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs one Kubernetes cluster in one scratch folder.
//
// A launcher process holds the folder's lock and is the parent of everything;
// the state file says what was started. Whoever takes the lock next finds in
// that file what an interrupted launcher left, ends it, and starts anew: a
// cluster's data never survive its launcher.
package cluster
