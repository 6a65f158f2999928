// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench measures what rekey costs beside the least that an operator could cost: the real binary and a bare
// operator (floor), each against a real API server of its own, in one run. Ratios of one run mean something; absolute
// times are those of the machine.
//
// Everything, with what is asked of it (REKEY_SIZE=full for the numbers of docs/benchmarks.md):
//
//	KUBEBUILDER_ASSETS=$(make assets) go test -tags bench -count=1 -timeout 40m -run '^TestSpeed$' -v ./test/bench
//
// One piece, which is printed and asks for nothing:
//
//	KUBEBUILDER_ASSETS=$(make assets) go test -tags bench -count=1 -run '^TestPiece$' -v ./test/bench -sizes 500,2000 \
//	    [-namespaces 100] [-repeat 3] [-only rekey] [-renewal] [-restart] [-idle 15s] [-rekey "$PWD/bin/rekey"] [-floor FILE]
//
// and database credentials:  -run '^TestDatabasePiece$' -credentials 200 -rounds 2
package bench
