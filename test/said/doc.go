// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package said compares what rekey says with what is so. Every world of the tests hands it each status and each Event at the
// moment at which it is written or told: what it says of the Secret, the ledger and the logins must be true then, and every
// message must be a sentence that a stranger can read.
//
// It imports nothing of package controllers, so that the tests of that package can use it too.
package said
