// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package failpoint makes the operator kill itself on purpose, with SIGKILL, at a point that is chosen beforehand. Only a
// binary built with the tag failpoints contains it; the released binary does not even link this package.
//
// There is a point before and after every effect. The points are not placed by hand: they are attached to everything that
// leaves the process, so that an effect added tomorrow has its points already.
//
//   - Every request to the API server that is meant to change something (Transport): "before update secrets (ledger Staged)".
//     Secrets are distinguished by type, and a ledger by the step of a rotation that the write records.
//   - Every statement of the PostgreSQL engine that changes something (Tracer): "after Stage: ALTER ROLE LOGIN PASSWORD".
//   - Every call of an engine and of an issuer (Engine, Issuer): "before Retire", "after Issue".
//
// "Before" is before anything has left the process; "after" is when the answer has arrived but has not been returned yet.
package failpoint
