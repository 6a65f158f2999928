// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image makes a container image of one static binary, without a
// registry and without a container runtime. The same input gives the same
// image, byte by byte.
package image
