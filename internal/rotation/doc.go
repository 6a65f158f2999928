// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotation is the planner: it takes an observation of one credential and decides the single next step. It is pure:
// it has no client, clock, logger or context. The time and the state of the world are passed in, and the decision is
// returned as data.
//
// The life of one version:
//
//	           Propose        Stage         Verify         Commit                     Retire
//	(nothing) ---------> Proposed ----> Staged ----> Verified ----> Current ----> Previous ----> (nothing)
//	                        |             |             |              |
//	                        +-------------+-------------+              +-- Publish: the user's Secret shows it
//	                                      | Discard
//	                                      v
//	                                  Discarded ----> (nothing)
//
//	Proposed   generated and recorded; unknown outside
//	Staged     the remote system accepts it
//	Verified   it was used as a client would use it, and worked
//	Current    it is what the user's Secret shows
//	Previous   it is still accepted, so that consumers can move
//	Discarded  it will never be published; that is recorded before the remote system is made to refuse it
//
// A credential has at most one pending version (the first three stages and the last), one current and one previous.
//
// How to read the table in next.go: Next goes through the rows from the top, and the first row that matches decides. A row
// can therefore rely on every row above it: "stage" need not check whether the object is being deleted. Each row names one
// Step. The driver performs exactly that step, observes again and calls Next again; nothing is remembered between two calls.
// A crash between any two steps therefore needs no special handling: the next process asks the same question.
//
// A Decision also has the time of the next reconcile. WakeAt is never later than the next expiry level or an hour from now,
// whatever row decided, so that no level is missed and the wall clock is read again after a machine has slept.
//
// The other files are functions of the same Observation: due.go (when a version is to be replaced, retired, proven),
// health.go (how near its deadline is), backoff.go (how long a failing step waits), version.go (number and slot of the next
// version), decision.go (the questions that the rows ask).
//
// The tests are the proof: they cover every row, every pair of rows that could both match, and every mutation of the table.
// The simulation in internal/lifecycle runs this table and the real driver against a simulated world and kills the process
// before, after and inside every effect. internal/lifecycle/testdata/stories holds complete lives to read.
package rotation
