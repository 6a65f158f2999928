// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package twoleaders tests that two of everything are harmless: two processes without leader election on one API server and one
// database, readers that see an older state, dead watches, a process that is suspended in the middle of a step while another
// one continues, and clocks that differ.
//
// Only one process runs at a time. Before every API request and every database call it yields to the scheduler, which
// chooses at random which process continues. The same seed replays the same order:
//
//	REKEY_SEED=7 go test ./test/crash/twoleaders -run ^TestTwoProcessesInAnyOrderDoNoHarm$
//
// The seeds are 1, 2 and so on, and a new one for each run, which prints it. Many things can happen while a process is
// suspended. Each effect meets one of them in each run, and a different one in the next; -all plays all of them:
//
//	go test ./test/crash/twoleaders -timeout 60m -run ^TestAnOldLeader -all
//
// REKEY_SIZE is short (the default) or full.
package twoleaders
