// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issuertest has the promises of every issuer, as one suite of tests that each of them runs: what it issues is exactly
// what was requested, passes the checks before publication and those of OpenSSL, never outlives its chain, and what the
// constraints forbid is refused with the right class and reason.
//
// It needs the openssl command and fails without it.
package issuertest
