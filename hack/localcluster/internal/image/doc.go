// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image builds a container image from one static binary, without a
// registry or a container runtime. The same input produces the same image, byte
// for byte.
package image
