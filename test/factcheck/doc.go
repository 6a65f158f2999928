// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package factcheck compares what rekey reports with the facts. Every world of the tests passes it each status and each Event at
// the moment it is written or emitted: what it claims about the Secret, the ledger and the logins must be true then, and
// every message must be a sentence that a user understands.
//
// It does not import package controllers, so that package's own tests can use it too.
package factcheck
