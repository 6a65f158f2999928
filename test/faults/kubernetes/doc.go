// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kubernetes tests rekey against faults of a Kubernetes cluster: an API server that is down, slow, overloaded or
// returns false answers; etcd that is killed or restored; clocks that jump; Secrets that are deleted and edited by hand at
// every stage; namespaces that are deleted; objects that are applied and pruned repeatedly; a thousand invalid objects.
// Each test names the class that it covers (docs/reliability.md).
//
// The environment variable REKEY_SIZE is short (the default) or full. REKEY_SEED sets the random seed; each test logs the
// seed that it used.
package kubernetes
