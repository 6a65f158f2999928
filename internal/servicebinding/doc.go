// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servicebinding encodes credentials as Secret data, by the well-known keys of the Service Binding Specification 1.1
// ("Well-known Secret Entries").
package servicebinding
