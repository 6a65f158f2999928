// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sourcetest holds the contract of a credential.Source: one suite for every source, by capability.
//
//	core.go       what every source keeps: proposing, staging, lost answers, contexts
//	provable.go   Provable: what Verify answers, and when it does not know
//	revocable.go  Revocable: retiring, and what must not be retired
//	markers.go    MarkerReader and Heir: whose a slot is, and how new
//	powers.go     Remover, SessionCounter, Preflighter
//	minted.go     Minted: the remote system makes the secret
//
// A harness declares the traits and powers of its source. Each section runs where they say so; what a source lacks is asserted
// to be absent, and not demanded. Faults makes calls of any source fail, and Fake is a source with any combination of traits.
package sourcetest
