// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package zlint checks the certificates that rekey issues against the rules of RFC 5280, with zlint. It has tests only.
package zlint
