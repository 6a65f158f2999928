// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package database is the contract between the controllers and the systems whose logins rekey rotates.
//
// An Engine opens a Session to one server for one credential. The Session is a credential.Source, so the planner handles a
// database password like any other credential. The engines are in the folders below; databasetest holds the suite that each of
// them must pass.
package database
