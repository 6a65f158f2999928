// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash kills the real binary: with SIGKILL, before and after every effect (internal/failpoint) and at random
// instants, against a real API server with its controllers and real PostgreSQL servers, while clients use the published
// Secrets without a pause. Nobody may be refused, nothing may be lost, left over, or rotated that nobody asked for.
//
// Environment:
//
//	REKEY_SIZE  short (the default; about 25 deaths) or full (at least 200)
//	REKEY_SEED  a number that is printed by an earlier run, to throw the same dice
package crash
