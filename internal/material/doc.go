// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package material makes what credentials consist of, and encodes it for the Secrets that people mount.
//
// Passwords and keys come from crypto/rand, and nothing here reads a clock or talks to anybody. What is secret leaves
// the package as credential.Sensitive only, but for the encoders of Secret data, whose result goes to the API server
// and nowhere else. No error of this package holds a secret.
package material
