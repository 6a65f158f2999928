// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package api tests what the API server guarantees for our kinds: which objects it stores, which it refuses and with
// which message (testdata/refusals.golden), what cannot be changed afterwards, and that nothing it stores can stop a
// watcher. It runs a real API server, with the programs in KUBEBUILDER_ASSETS ("make assets" builds them).
//
// Unknown fields: kubectl requests strict field validation, so a field that does not exist is refused with its
// path. Other clients get a warning, and the field is dropped before the object is stored.
package api
