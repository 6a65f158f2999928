// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metricsauth authorizes metrics requests against the API server: it authenticates the token (TokenReview) and authorizes
// the verb on the path (SubjectAccessReview). It does what controller-runtime's filter does, without the generic API server that
// comes with that filter (docs/design/0009).
package metricsauth
