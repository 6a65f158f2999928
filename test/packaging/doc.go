// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package packaging tests what ships beside the program: the manifests under config, the samples, the alert rules, the
// runbooks and the Dockerfile. It needs no cluster. To rewrite golden and derived files, run
//
//	go test ./test/packaging -update
package packaging
