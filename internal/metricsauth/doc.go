// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metricsauth lets read the metrics whom the API server lets: whose token it knows (TokenReview), and who may use the
// path with the verb (SubjectAccessReview). It does what the filter of controller-runtime does, without the generic API server
// that comes with that one (docs/design/0009).
package metricsauth
