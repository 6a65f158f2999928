// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issuertest is the suite that every issuer must pass: what it issues is exactly what was requested, passes the checks
// before publication and those of OpenSSL, and never outlives its chain; what the constraints forbid is refused with the right
// class and reason.
//
// It needs the openssl command and fails without it.
package issuertest
