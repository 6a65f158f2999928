// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reconcile lets the controllers work on objects that chance has made: whatever the API server would store, and
// whatever anybody could put into a Secret.
//
// The API server is the fake client of controller-runtime, with the real schemas of our CRDs in front of it (OpenAPI, defaults
// and CEL, by the code of the API server itself), because a real one would allow some ten tries in a second, and this
// allows hundreds. What the fake cannot show (races, watches, admission) the other suites show on a real one.
package reconcile
