// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package recent remembers the answers to the questions that were asked last, within bounds.
package recent
