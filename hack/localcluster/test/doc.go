// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package test holds the tests that start whole clusters.
package test
