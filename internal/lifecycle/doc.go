// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lifecycle drives one credential through its life: it observes, asks rotation.Next for the next step, performs that one
// step, and observes again, until no step is left.
//
//	driver.go      the loop, and the observation that the planner decides on
//	perform.go     the steps, one method each
//	fencing.go     the markers at the remote system: which owner and version a login has
//	takeover.go    ownership of a whole credential, and taking it over from a former owner
//	requests.go    requests by annotation, recorded before they are carried out
//	cleanup.go     deletion: what a deleted object leaves behind, and for how long it may wait
//	attempts.go    what this process remembers: failed attempts, proofs
//	contention.go  another writer of the user's Secret, and how often to check again
//	store.go       where the versions are recorded and published; conflicts
//
// It depends on no kind and no Kubernetes object: a Credential has everything resolved, and an Outcome holds facts that the caller
// reports. Nothing in memory is needed to finish what another process started.
package lifecycle
