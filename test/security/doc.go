// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package security proves what the threat model says, on the built binary: it runs under exactly the rights that config/
// gives it, against a real API server that writes down every request, and real PostgreSQL servers that write down every
// statement. The tests read what was written.
//
// Three questions are asked of one life of every kind, troubles included: does any secret stand anywhere but in Secrets, was
// anything forbidden to the operator, and does it have a right that it does not use. A fourth is asked of two tenants: can
// one of them reach, or learn of, what the other has.
package security
