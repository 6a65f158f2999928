// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the kinds of rekey, the words of their conditions (conditions.go) and the labels and annotations
// that rekey sets and reads (keys.go). It holds no behaviour.
//
// +kubebuilder:object:generate=true
// +groupName=rekey.dev
package v1alpha1
