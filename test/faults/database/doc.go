// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package database tests that a database login keeps working while its environment fails: a network that cuts, delays and
// hangs at every message; a server that stops, crashes, freezes, is restored from a copy or is replaced by its standby;
// users who change the logins by hand; and a broken admin Secret.
//
// The API server and the PostgreSQL servers are real. The proxy between them and rekey (wire) presents the server's own
// certificate, so clients trust it like the server itself. It understands enough of the protocol to count every request and
// every response that passes. Each of them is a moment at which something can go wrong.
//
// REKEY_SIZE=short runs a seeded sample of the moments. REKEY_SIZE=full runs all of them on one version of PostgreSQL, each
// with half of the possible faults, and larger samples of everything else. A failing test prints its seed; REKEY_SEED
// replays it.
package database
