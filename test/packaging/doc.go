// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package packaging tests what is shipped beside the program: the manifests under config, the samples, the alert rules, the
// runbooks and the Dockerfile. It needs no cluster. Golden files and files that are made from others are written anew by
//
//	go test ./test/packaging -update
package packaging
