// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issuertest holds the promises that every issuer keeps, as one suite of tests that each of them runs: what it
// issues is exactly what was asked for, passes the checks before publication and the eyes of OpenSSL, never outlives its
// chain, and what the constraints forbid is refused with the right class and reason.
//
// It needs the openssl command and fails without it.
package issuertest
