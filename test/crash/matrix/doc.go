// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package matrix is the crash matrix: one life of every kind, and in it every effect fails in every way.
//
// An effect is a request to the API server, reads too, or a call of a backend. The effects of a life are numbered in the
// order in which they happen. Each is then spoiled alone, in every way that it can be spoiled (faults_test.go), and the
// process either dies on the spot, is started again after its pass, or lives on. Then it goes on until it is quiet, and
// every invariant is checked: after every pass what has to hold at all times, at the end what has to hold in the end.
// Pairs of faults are a seeded sample.
//
// The API server is real, and so is PostgreSQL. docs/development/crash-matrix.md says how to add a life, a kind or a backend.
//
//	go test ./test/crash/matrix                                 # every life; of most steps with a database a sample
//	REKEY_SIZE=full go test ./test/crash/matrix -timeout 25m    # the main lives whole
//	REKEY_SEED=7 go test ./test/crash/matrix                    # the same sample again
//	REKEY_SIZE=full go test ./test/crash/matrix -timeout 40m -update    # everything; writes testdata/matrix.json
package matrix
