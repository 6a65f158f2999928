// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki generates keys and certificate requests, reads and checks certificates, chains and bundles, and encodes the
// results as Secret data.
//
// Keys come from crypto/rand. The package reads neither a clock nor the network. Secrets leave it as credential.Sensitive,
// except in the Secret data that the encoders return, which goes only to the API server. No error of this package contains a
// secret.
package pki
