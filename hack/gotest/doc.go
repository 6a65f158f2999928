// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gotest runs go test, of the sources as they are or with one file overlaid, and says what became of it: a test
// that failed is told from a package that does not build, and from an expression that selects nothing. Whatever a test
// leaves behind, it ends.
package gotest
