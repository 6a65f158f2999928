// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kubernetes proves rekey in hostile surroundings, as far as these are a Kubernetes cluster: an API server that is
// gone, slow, overloaded or lies; etcd that is killed or restored; clocks that jump; Secrets deleted and edited by hand
// at every stage; namespaces that end; objects applied and pruned again and again; a thousand objects that make no sense.
// Each test names the class that it shows (docs/reliability.md).
//
// The size is that of the environment variable REKEY_SIZE: short (the default) or full. REKEY_SEED gives the seed of what is
// drawn by chance; the one that was used is in the log of the test.
package kubernetes
