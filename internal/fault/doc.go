// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault sorts errors by what can be done about them, and holds the reasons that engines and issuers may give.
//
//   - Pending: not an error; ask again after a while.
//   - Blocked: another object or a person must act first; a watch wakes us.
//   - Permanent: only a change of the spec, or of the other side, helps.
//   - anything else is transient and is tried again with backoff.
//
// An engine or an issuer translates once, at its edge, from SQLSTATE, TLS alert or HTTP status to a class and a Reason.
// Everybody else asks Classify and ReasonOf, and never looks at an error's text.
package fault
