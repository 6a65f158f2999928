// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package password generates passwords from crypto/rand. It knows no database and no format that a password is stored in.
package password
