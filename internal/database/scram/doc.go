// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scram proposes logins whose password a server checks by SCRAM-SHA-256, and derives the verifier that PostgreSQL
// stores.
//
// It is a separate package because both the PostgreSQL engine and code that proposes a login without an engine need it.
package scram
