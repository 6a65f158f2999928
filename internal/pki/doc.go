// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki generates keys and certificate requests, reads and checks certificates, chains and bundles, and encodes what it made
// as the data of Secrets.
//
// Keys come from crypto/rand. Nothing here reads a clock or the network. Secrets leave the package as credential.Sensitive,
// except in the data of Secrets that the encoders return, which goes to the API server only. No error of this package holds a
// secret.
package pki
