// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issuer is the contract between the controllers and the issuers of certificates.
//
// The issuers are in the folders below; issuertest has the suite that each of them must pass.
package issuer
