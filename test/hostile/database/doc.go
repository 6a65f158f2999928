// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package database holds the proofs that a database login lives on while its surroundings are hostile: a network that cuts,
// delays and hangs at every message; a server that stops, crashes, freezes, comes back from a copy or is replaced by its
// standby; people who change the logins by hand; and an admin Secret that is wrong.
//
// The API server and the PostgreSQL servers are real. What stands between them and rekey (wire) shows the server's own
// certificate, so that it can be trusted like the server itself, and understands the protocol well enough to count every
// request and every answer that passes. Each of them is a moment at which something can go wrong.
//
// REKEY_SIZE=short takes a seeded sample of the moments; full takes all of them on one version of PostgreSQL, each with half of
// what can be done to it, and larger samples of the rest. The seed is printed where a test fails, and REKEY_SEED gives it again.
package database
