// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package api holds what the API server promises about our kinds: which objects it stores, which it refuses and with
// what words (testdata/refusals.golden), what cannot be changed afterwards, and that nothing it stores can stop a
// watcher. It runs a real API server, whose programs KUBEBUILDER_ASSETS names ("make assets" builds them).
//
// Unknown fields: kubectl asks for strict field validation, and then a field that does not exist is refused with its
// path. Clients that do not ask get a warning, and the field is dropped before it is stored.
package api
