// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reconcile runs the controllers on random objects: anything that the API server would store, and anything that a
// user could put into a Secret.
//
// The API server is the fake client of controller-runtime, with the real schemas of our CRDs in front of it (OpenAPI,
// defaults and CEL, by the code of the API server itself): a real one would allow about ten attempts per second, this one
// allows hundreds. Other suites show on a real API server what the fake one cannot (races, watches, admission).
package reconcile
