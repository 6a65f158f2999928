// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cache is a small bounded cache keyed by SHA-256 digest.
package cache
