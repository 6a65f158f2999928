// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package databasetest holds the contract of a database engine: what sourcetest asks of every source, and what is about
// databases. It also has an engine with an in-memory server that keeps the contract, and one that makes calls fail.
package databasetest
