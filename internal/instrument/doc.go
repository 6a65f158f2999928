// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package instrument installs failpoints on every way out of the process, in binaries that are built with the tag failpoints. In
// others it does nothing and does not link them.
package instrument
