// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotation is the planner: it looks at one credential and says which single step comes next. It is pure. It knows
// no client, no clock, no logger and no context; what time it is and what the world looks like is handed to it, and what
// is to be done is given back as data.
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
//	Proposed   made up and written down; nobody outside knows it
//	Staged     the remote end accepts it
//	Verified   it was used the way a client would, and worked
//	Current    it is what the user's Secret shows
//	Previous   it is still accepted, so that consumers can move
//	Discarded  it will never be published; that is written down before the remote end is told to refuse it
//
// A credential has at most one pending version (the first three stages and the last), one current and one previous.
//
// How to read the table in next.go: Next goes through the rows from the top, and the first one that matches decides. So a
// row can rely on every row above it: "stage" need not ask whether the object is being deleted. Each row names one Step.
// The driver performs exactly that one, looks at the world again, and asks again; nothing is remembered from one question
// to the next. That is why a crash between any two steps is nothing special: the next process asks the same question.
//
// Beside the step a Decision says when to look again. WakeAt is never later than the next expiry level and than in an
// hour, whatever row decided, so that no level is missed and the wall clock is read again after a machine has slept.
//
// The other files are functions of the same Observation: due.go (when a version is to be replaced, retired, proven),
// health.go (how near its deadline is), backoff.go (how long a failing step waits), version.go (number and slot of the
// next version), decision.go (what the rows ask).
//
// The proof is in the tests: every row, every two rows that could both match, and a simulation that runs this table and
// the real driver against a pretended world, kills the process before, after and inside every effect, and damages the
// table to see that the damage is noticed. testdata/stories are lives to read.
package rotation
