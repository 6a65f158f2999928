// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sourcetest holds the contract of a credential.Source: one suite for every source, by capability.
//
//	core.go       what holds for every source: proposing, staging, lost answers, contexts
//	provable.go   Provable: what Verify answers, and when it must answer Unknown
//	revocable.go  Revocable: retiring, and what must not be retired
//	markers.go    MarkerReader and Heir: which owner and version a slot has
//	powers.go     Remover, SessionCounter, Preflighter
//	minted.go     Minted: the remote system generates the secret
//
// A harness declares the traits and powers of its source, which select the sections that run; what a source lacks must be absent,
// and is not tested further. Faults makes calls of any source fail, and Fake is a source with any combination of traits.
package sourcetest
