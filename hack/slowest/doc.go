// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// slowest prints the ten slowest tests in files written by go test -json:
//
//	go run ./hack/slowest .cache/test/test-*.json
//
// It lists top-level tests, each with its own time: without the time that a parallel test waited for its turn. The parallel
// subtests of a test count one after another, so a test can take less time than the list shows.
package main
