// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package results holds what a run of the benchmarks measured, its bars, and the page and the picture that are made from it.
// It measures nothing.
package results
