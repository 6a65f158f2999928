// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certificate has the credential.Source for a certificate from any issuer, and reads published certificates.
//
// It does not depend on a particular issuer: their differences are in their issuer.Profile.
package certificate
