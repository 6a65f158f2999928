// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault classifies errors by what can be done about them, and defines the reasons that engines and issuers may use.
//
//   - Pending: not an error; ask again later.
//   - Blocked: another object must change or a user must act first; a watch triggers the next reconcile.
//   - Permanent: only a change of the spec or of the remote system helps.
//   - anything else is transient and retried with backoff.
//
// An engine or an issuer translates once, at its edge, from SQLSTATE, TLS alert or HTTP status to a class and a Reason.
// All other code uses Classify and ReasonOf, and never parses an error's text.
package fault
