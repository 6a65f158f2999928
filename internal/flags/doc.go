// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flags reads and checks the operator's command line. It starts nothing.
package flags
