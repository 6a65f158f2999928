// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crds checks every CRD in config/crd/bases, without a cluster: descriptions that read well in kubectl explain,
// bounds on everything, printer columns, and the kinds that PROJECT and the kustomization name.
package crds
