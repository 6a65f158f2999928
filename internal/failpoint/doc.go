// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package failpoint makes the operator die on purpose: by SIGKILL to itself, at a point that is named beforehand. Only a
// binary that was built with the tag failpoints has it; the one that is shipped does not even link this package.
//
// A point lies before and after every effect. Nobody places them by hand: they hang on the ways out of the process, so that
// an effect that is added tomorrow has its points already.
//
//   - Every request to the API server that is meant to change something (Transport): "before update secrets (ledger Staged)".
//     A Secret is told apart by its type, and a ledger by the step of a rotation that the write records.
//   - Every statement of the PostgreSQL engine that changes something (Tracer): "after Stage: ALTER ROLE LOGIN PASSWORD".
//   - Every call of an engine and of an issuer (Engine, KeyPairs): "before Retire", "after Issue".
//
// "Before" is before anything has left the process, "after" is when the answer has come in and nobody has seen it yet.
package failpoint
