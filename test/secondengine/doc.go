// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secondengine is an engine that exists in tests only, and is as unlike PostgreSQL as the contract allows: it has one
// login that accepts two passwords at once, no markers, no count of sessions, other Secrets, and names of at most 30 bytes. It
// passes the suites, and a whole life in the controllers, which shows that an engine can be added without a change elsewhere.
//
// It is registered under the key PostgreSQL, in the map that main.go fills too, and not under a key of its own: the union of
// engine blocks is a Go type, which a test cannot extend, and a block that the type does not have would be dropped when an object
// is read. The API's enum does not have the strategy DualPassword; a test that stores objects adds it to the CRD.
package secondengine
