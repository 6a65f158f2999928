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

// Record is one version with its material.
type Record struct {
	rotation.Version
	Material credential.Material
}

// Tokens are a user's requests of one kind: the last one seen and the last one carried out.
type Tokens struct {
	Seen    string `json:"seen,omitempty"`
	Honored string `json:"honoured,omitempty"`
}

// longestToken is the maximum length of a recorded request, in bytes: both Secrets have room for several of them.
const longestToken = 1024

// Token returns what is recorded for an annotation that requests something: its value, or the hash of a value too long to be
// recorded more than once. A Secret's annotations have the same size limit as those of the requesting object, and a request
// that cannot be recorded would block every rotation.
func Token(value string) string {
	if len(value) <= longestToken {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// short does the same to what an earlier release recorded, so that it is still the same request.
func (t Tokens) short() Tokens {
	t.Seen, t.Honored = Token(t.Seen), Token(t.Honored)
	return t
}

// Handover is what a user handed over to the owner: the former owner (cluster/namespace/name) that was seen last, and the one
// of the last takeover, which was at At.
type Handover struct {
	Seen    string    `json:"seen,omitempty"`
	Honored string    `json:"honoured,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// Ledger is everything that is recorded about one credential.
type Ledger struct {
	// Pending, Current and Previous are the recorded versions; nil for none.
	Pending, Current, Previous *Record
	// LastSeq is the highest number that any version had, including discarded ones.
	LastSeq int64
	// Rotate and RetirePrevious are the tokens of the annotations of these names.
	Rotate, RetirePrevious Tokens
	// RetireThrough is the number of the newest version that the open request to retire covers; 0 if it covers whichever
	// version is the previous one.
	RetireThrough int64
	// TakeOver is what rekey.dev/take-over-from requested.
	TakeOver Handover
	// Survivor is what the markers showed when a version was proposed without a current one.
	Survivor Survivor
}

// Survivor is one of rekey's logins that was open although no current version was recorded, because the ledger was lost. It
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

// Records returns all records by what they are, for messages: "pending", "current", "previous", and "surviving".
func (l Ledger) Records() map[string]*Record {
	out := map[string]*Record{}
	for name, record := range records(l) {
		if record != nil {
			out[name] = record
		}
	}
	if survivor := l.Survivor.Version(); survivor != nil {
		out["surviving"] = survivor
	}
	return out
}

// versions reports whether the ledger has any version.
func (l Ledger) versions() bool { return l.Pending != nil || l.Current != nil || l.Previous != nil }

// Clone returns a copy of the ledger that can be changed independently.
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

// Snapshot is what a Store holds now: the ledger, and what the user sees.
type Snapshot struct {
	// Ledger is the recorded state. The caller changes a clone of it, never this one.
	Ledger Ledger
	// Target is what the user's Secret shows, compared with the ledger's current version and with what the spec requires of
	// the Secret (type, keys, labels, annotations, owner).
	Target rotation.TargetState
	// Conflict names the owner of the user's Secret, and what to do; only with TargetForeign.
	Conflict string
	// Shown is the version whose credential the user's Secret holds, whatever its metadata shows: the current or the previous
	// one. Nil if it holds neither or is not ours.
	Shown *rotation.Version
	// ShowsData is true if the Secret is ours and has the data of the current version: only its metadata can differ.
	ShowsData bool
	// LacksRecords is true if the Secret differs only in annotations that an earlier release did not write: adding them is
	// not urgent.
	LacksRecords bool
	// Keystores is the version that the keystores in our Secret were written for; zero if there are none.
	Keystores KeystoreVersion
	// KeystoresWritten is true if they were written by a Save or Publish that published no new version.
	KeystoresWritten bool
	// Immutable explains what to do about our Secret if no new version can be published in it; empty if one can be.
	Immutable string
	// Adopted describes the adoption of the user's Secret by the last Publish; empty if its owner did not change.
	Adopted string
	// Inherited is true if the ledger belongs to a former owner and a user handed it over: until it is taken over, only the
	// handover may be written.
	Inherited bool
	// Overtaken is true if the ledger was written for a later state of the object than the caller knows, if there is no ledger,
	// or if this cannot be determined: then the caller's cache may be old.
	Overtaken bool
}
