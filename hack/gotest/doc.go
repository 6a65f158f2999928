// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gotest runs go test on the sources, optionally with one file overlaid, and reports the result. It distinguishes a
// failed test from a package that does not build and from an expression that selects no test. It kills every process that
// a test leaves behind.
package gotest
