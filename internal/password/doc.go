// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package password generates passwords from crypto/rand. It knows nothing about databases or the formats that store passwords.
package password
