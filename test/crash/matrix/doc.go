// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package matrix is the crash matrix: one life of every kind, in which every effect fails in every way.
//
// An effect is a request to the API server, including reads, or a call of an engine. The effects of a life are numbered in
// the order in which they happen. Each effect then fails alone, in every way in which it can fail (faults_test.go), and the
// process either dies on the spot, restarts after its reconcile, or continues. The life then continues until it is quiet, and
// every invariant is checked: after each reconcile the invariants that must always hold, and at the end the final ones.
// Pairs of faults are a seeded sample.
//
// The API server is real, and so is PostgreSQL. docs/development/crash-matrix.md explains how to add a life, a kind or an engine.
//
//	go test ./test/crash/matrix                                 # every life; a sample of most steps that use a database
//	REKEY_SIZE=full go test ./test/crash/matrix -timeout 60m    # all of the main lives
//	REKEY_SEED=7 go test ./test/crash/matrix                    # the same sample again
//	REKEY_SIZE=full go test ./test/crash/matrix -timeout 90m -update    # everything; writes testdata/matrix.json
package matrix
