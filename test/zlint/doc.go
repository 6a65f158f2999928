// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package zlint holds the certificates that rekey issues against the rules of RFC 5280, as zlint knows them. It has
// tests only.
package zlint
