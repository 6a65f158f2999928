// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package assets builds the Kubernetes programs from Go modules into a cache
// folder, once. The folder has the layout that controller-runtime's envtest
// expects of KUBEBUILDER_ASSETS.
package assets
