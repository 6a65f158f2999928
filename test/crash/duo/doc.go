// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package duo proves that two of everything do no harm: two processes without leader election on one API server and one
// database, readers that are shown an older state, watches that are dead, a process that stands still in the middle of a
// step while another one goes on, and clocks that differ.
//
// One process at a time does one thing: before every API request and every call of the database it hands over to the
// scheduler, and dice decide who goes on. The same seed gives the same order again:
//
//	REKEY_SEED=7 go test ./test/crash/duo -run ^TestTwoProcessesInAnyOrder$
//
// The seeds are 1, 2 and so on, and a fresh one for each run, which prints it. Of what may happen while a process stands still,
// each effect meets one thing in a run, and another one in the next; -all plays them all:
//
//	go test ./test/crash/duo -timeout 60m -run ^TestAnOldLeader -all
//
// REKEY_SIZE is short (the default) or full.
package duo
