// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package issuer is the contract between the controllers and whoever signs certificates.
//
// Concrete issuers live in the folders below; issuertest holds the suite that each of them passes.
package issuer
