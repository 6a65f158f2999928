// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
)

// Record is one version together with its material.
type Record struct {
	rotation.Version
	Material credential.Material
}

// Tokens are a person's requests of one sort: the one that was seen last, and the one that was carried out last.
type Tokens struct {
	Seen     string `json:"seen,omitempty"`
	Honoured string `json:"honoured,omitempty"`
}

// longestToken is how much of a request's value is recorded, in bytes: both Secrets have room for several of these.
const longestToken = 1024

// Token returns what is recorded of the value of an annotation that asks for something: the value, or its hash where it is too
// long to be recorded more than once. A Secret's annotations may have as many bytes as those of the object that asks, and a
// request that cannot be recorded would hold up every rotation.
func Token(value string) string {
	if len(value) <= longestToken {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// short is the same of what an earlier release recorded, so that it is the same request still.
func (t Tokens) short() Tokens {
	t.Seen, t.Honoured = Token(t.Seen), Token(t.Honoured)
	return t
}

// Handover is what a person handed over to the owner: the former owner (cluster/namespace/name) that was seen last, and the
// one from which was taken over last, at At.
type Handover struct {
	Seen     string    `json:"seen,omitempty"`
	Honoured string    `json:"honoured,omitempty"`
	At       time.Time `json:"at,omitzero"`
}

// Ledger is everything that is written down about one credential.
type Ledger struct {
	// Pending, Current and Previous versions; nil where there is none.
	Pending, Current, Previous *Record
	// LastSeq is the highest number that was ever given to a version, discarded ones included.
	LastSeq int64
	// Rotate and RetirePrevious are the tokens of the annotations of these names.
	Rotate, RetirePrevious Tokens
	// RetireThrough is the number of the newest version that the open request to retire the previous one means; 0 where it means
	// the one that is the previous one.
	RetireThrough int64
	// TakeOver is what rekey.dev/take-over-from asked for.
	TakeOver Handover
	// Survivor is what the marks showed when a version was proposed without a current one.
	Survivor Survivor
}

// Survivor is a login of ours that was open although no current version was recorded, because the ledger had been lost. It
// becomes the previous version when the pending one is committed. The zero value means that there is none.
type Survivor struct {
	Seq  int64  `json:"seq,omitempty"`
	Slot string `json:"slot,omitempty"`
	// Crowded is true if the login in the slot of the pending version was open too: no slot was closed.
	Crowded bool `json:"crowded,omitempty"`
}

// Version returns the survivor as a previous version; nil if there is none.
func (s Survivor) Version() *Record {
	if s.Seq == 0 {
		return nil
	}
	return &Record{Version: rotation.Version{Seq: s.Seq, Slot: s.Slot, Stage: rotation.Previous}}
}

// versions reports whether there is any.
func (l Ledger) versions() bool { return l.Pending != nil || l.Current != nil || l.Previous != nil }

// Clone copies the ledger, so that a change of the copy leaves the original as it was written.
func (l Ledger) Clone() Ledger {
	out := l
	out.Pending, out.Current, out.Previous = l.Pending.clone(), l.Current.clone(), l.Previous.clone()
	return out
}

func (r *Record) clone() *Record {
	if r == nil {
		return nil
	}
	return &Record{Version: r.Version, Material: r.Material.Clone()}
}

// Snapshot is what a Store holds now: what is written down, and what the user sees.
type Snapshot struct {
	// Ledger is what is written down. The caller changes a clone of it, never this one.
	Ledger Ledger
	// Target is what the user's Secret shows, compared with the ledger's current version and with what the spec wants
	// of the Secret (type, keys, labels, annotations, owner).
	Target rotation.TargetState
	// Conflict says who has the user's Secret, and what to do; only with TargetForeign.
	Conflict string
	// Shown is the version whose credential the user's Secret holds, whatever its metadata say: the current or the previous
	// one. Nil where it holds neither, or is not ours.
	Shown *rotation.Version
	// ShowsData is true where the Secret is ours and its data are those of the current version: only its metadata can differ.
	ShowsData bool
	// LacksRecords is true where the Secret differs in nothing but annotations that an earlier release did not write:
	// adding them is not urgent.
	LacksRecords bool
	// Immutable says what to do about a Secret of ours that no new version can be published in; empty where one can be.
	Immutable string
	// Adopted says whose the user's Secret was until the last Publish took it over; empty where it did not change hands.
	Adopted string
	// Inherited is true where what is written down is that of the owner from which a person handed it over: only the hand-over
	// may be written before it is taken over.
	Inherited bool
	// Overtaken is true where what is written down was written for a later state of the object than the caller knows, or
	// nothing is written down, or nobody can tell: then the caller's cache may be old.
	Overtaken bool
}
