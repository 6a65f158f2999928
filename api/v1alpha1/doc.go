// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has rekey's kinds, the types and reasons of their conditions (conditions.go), and the labels and annotations
// that rekey sets and reads (keys.go). It has no behavior.
//
// +kubebuilder:object:generate=true
// +groupName=rekey.dev
package v1alpha1
