// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crash kills the real binary with SIGKILL, before and after every effect (internal/failpoint) and at random
// instants. It runs against a real API server with its controllers and real PostgreSQL servers, while clients use the published
// Secrets continuously. No client may be rejected, and nothing may be lost, left behind, or rotated without a request.
//
// Environment:
//
//	REKEY_SIZE  short (the default; about 25 kills) or full (at least 200)
//	REKEY_SEED  the seed that an earlier run printed, to replay its random choices
package crash
