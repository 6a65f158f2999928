// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package results holds what a run of the benchmarks measured, what is asked of it, and the page and the picture that are
// made of it. It measures nothing.
package results
