// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gcpace runs the garbage collector whenever a fixed amount has been allocated. Go's own setting is a percentage of the
// live heap (GOGC=100: as much again), so a cache that grows by one byte makes the process grow by two. With a fixed amount, small
// processes collect less often, and large ones grow only by what they hold.
//
// GOGC and GOMEMLIMIT take precedence: if GOGC is set, this package does nothing.
package gcpace
