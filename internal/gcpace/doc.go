// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gcpace has the garbage collector run each time a fixed amount was allocated. Go's own setting is a share of what
// lives (GOGC=100: as much again), so that a cache which grows by one octet makes the process grow by two. With a fixed amount
// small processes collect less often, and large ones grow by what they hold.
//
// GOGC and GOMEMLIMIT in the environment go before: with GOGC set nothing is done here.
package gcpace
