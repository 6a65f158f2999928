// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scram proposes logins whose password a server checks by SCRAM-SHA-256, and derives the verifier that PostgreSQL stores.
//
// It is a leaf, because both the PostgreSQL engine and what proposes a login without an engine at hand need it.
package scram
