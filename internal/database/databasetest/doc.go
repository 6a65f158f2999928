// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package databasetest holds what every engine is tested with.
//
//   - Run is the contract: one suite that the fake, the real and every future engine pass.
//   - Fake is a server in memory that behaves as the contract says, for the tests of controllers.
//   - Faulty wraps an engine and spoils one call: before its effect, after it, or by losing the answer.
package databasetest
