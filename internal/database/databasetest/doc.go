// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package databasetest holds the contract of a database engine: what sourcetest requires of every source, and the database cases.
// It also has an engine with an in-memory server that fulfills the contract, and one that makes calls fail.
package databasetest
