// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki creates the CA, the certificates and the kubeconfigs of one
// throw-away cluster.
package pki
