// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts programs that must not outlive their launcher, and
// ends exactly those and no others. A program is known by its pid together with
// its start time, so a pid that the kernel gave to somebody else is never hit.
package process
