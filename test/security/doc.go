// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package security proves the threat model, with the built binary: it runs under exactly the rights that config/
// grants it, against a real API server that records every request, and real PostgreSQL servers that record every
// statement. The tests read these records.
//
// They ask three questions about one life of every kind, failures included: does any secret appear outside Secrets, was
// the operator refused anything, and does it have a right that it does not use. They ask a fourth about two tenants: can
// one of them reach, or learn of, what the other has.
package security
