// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command slowest prints the ten slowest tests in files written by go test -json:
//
//	go run ./hack/slowest .cache/test/test-*.json
//
// It lists top-level tests, each with its own time, excluding the time that a parallel test waited for its turn. The times of
// parallel subtests are added, so a test can take less time than the list shows.
package main
