// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench measures what rekey costs beside the minimum that an operator could cost: the real binary and a bare
// operator (floor), each against its own real API server, in one run. Ratios within one run are meaningful; absolute
// times are those of the machine.
//
// Speeds are compared only in a full run, on a quiet machine: the short run of continuous integration asserts counts (writes,
// reads, requests) and the peak of memory.
//
// Everything, with its bars (REKEY_SIZE=full for the bars on speed and the numbers of docs/benchmarks.md):
//
//	KUBEBUILDER_ASSETS=$(make assets) go test -tags bench -count=1 -timeout 40m -run '^TestSpeed$' -v ./test/bench
//
// One piece, which is printed and has no bars:
//
//	KUBEBUILDER_ASSETS=$(make assets) go test -tags bench -count=1 -run '^TestPiece$' -v ./test/bench -sizes 500,2000 \
//	    [-namespaces 100] [-repeat 3] [-only rekey] [-renewal] [-restart] [-idle 15s] [-rekey "$PWD/bin/rekey"] [-floor FILE]
//
// Several versions of rekey, or one in several environments, compared in one run (memory, processor time, requests):
//
//	KUBEBUILDER_ASSETS=$(make assets) go test -tags bench -count=1 -timeout 3h -run '^TestCompare$' -v ./test/bench \
//	    -sizes 1000,10000 -repeat 4 [-block 250] [-scrapes 100] -compare before=main -compare after=HEAD -compare often=HEAD,GOGC=50
//
// and database credentials:  -run '^TestDatabasePiece$' -credentials 200 -rounds 2
package bench
