// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certificate is the credential.Source of a certificate that any issuer signs, and reads what is published of it.
//
// It knows no issuer: what differs between them is in their issuer.Profile.
package certificate
