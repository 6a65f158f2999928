// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package databasetest holds what every engine is tested with.
//
//   - Run is the contract: one suite that the fake, the real engine and every future engine pass.
//   - Fake is an in-memory server that follows the contract, for the tests of controllers.
//   - Faulty wraps an engine and makes one call fail: before its effect, after it, or by losing the answer.
package databasetest
