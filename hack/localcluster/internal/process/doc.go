// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts programs that must not outlive their launcher, and stops
// exactly those. It identifies a program by its pid and its start time, so it never
// signals another process that reuses the pid.
package process
