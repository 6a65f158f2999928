// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench counts and times what rekey does at the API server for many objects at once, beside a bare operator that
// makes the same writes and checks nothing. Ratios of one run mean something; absolute times do not.
package bench
