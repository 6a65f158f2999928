// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the authority, the certificates and the kubeconfigs of one
// throw-away cluster.
package pki
