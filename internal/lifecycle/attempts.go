// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"crypto/sha256"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// finalRejections of a candidate in a row, after which it is never published: one rejection can be a server that has
// not caught up with itself.
const finalRejections = 2

// Memory is what one process remembers of every object: failed attempts and proofs. Losing it costs a few questions at
// the remote end and nothing else; nothing in it is needed to finish what was begun.
//
// The zero value is ready. It is safe for concurrent use.
type Attempts struct {
	mu    sync.Mutex
	byUID map[string]entry
}

// memo is what is remembered of one object. It is copied in and out; attempts is never shared.
type entry struct {
	firstSeen time.Time
	proof     rotation.Proof
	baseSeq   int64
	inputs    inputs
	// issued is when this process published a version of a source without a ledger last.
	lastIssued time.Time
	// What most objects have nothing of. It is there while the memo is open, and is not kept where it is empty.
	*transientState
}

// inputs are a digest of all that may mend a failing step.
type inputs [16]byte

func inputsOf(parts ...string) inputs {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return inputs(sum[:])
}

// seldom is the part of a memo that is about trouble, other ends and what is under way.
type transientState struct {
	marker    rotation.Mark
	candidate candidate
	// attempts that failed, of the rotation away from version base, with the same inputs.
	attempts map[rotation.Step]attempt
	// endpoint is where the proof was made.
	endpoint string
	// heals are the times that the user's Secret had to be written again.
	rewrites rewrites
	// waits is what the object waits for, since when.
	stuckSince stuckSince
	// withdrawing is since when this process has known that the object is being deleted; withdrawn is true where only the
	// finalizer is left, left is what could not be cleaned by then, and told is true where that was told.
	deletingSince       time.Time
	withdrawn, reported bool
	leftBehind          Remains
	// retired is the number of the previous version, where it is refused by now and the ledger does not say so yet.
	retiredSeq int64
	// stuck is how often Secret and ledger could not be withdrawn.
	withdrawFailures int
	// refusal is what the remote end said when it refused the current version last, or why that cannot do its work; nil
	// where it said nothing.
	refusal error
}

func (s *transientState) empty() bool {
	return len(s.attempts) == 0 && s.marker == rotation.Mark{} && s.candidate == candidate{} && s.endpoint == "" && s.rewrites == rewrites{} && s.stuckSince == stuckSince{} &&
		s.deletingSince.IsZero() && s.refusal == nil && s.retiredSeq == 0
}

// issueFloor is the least time between two versions of a source without a ledger. Its Secret is all there is: somebody who
// writes something else there again and again would otherwise have a new key made each time. Once that counts as a fight,
// fightFloor is.
const (
	issueFloor          = 10 * time.Second
	contendedIssueFloor = time.Minute
)

// candidate is what this process heard of the pending version.
type candidate struct {
	seq        int64
	answer     credential.Answer
	rejections int
	// above is the highest mark of ours that was met in its slot.
	highestMarker int64
}

// attempt is how often a step failed in a row, when it may be tried again, and why it failed last.
type attempt struct {
	count int
	next  time.Time
	err   error
}

// Forget drops what is remembered of an object that is gone.
func (m *Attempts) Forget(uid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byUID, uid)
}

// Proven tells whether a finished pass saw version seq of the object accepted at the endpoint.
func (m *Attempts) Proven(uid string, seq int64, endpoint string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.byUID[uid]
	return known.proofEndpoint() == endpoint && known.proof.Seq == seq && known.proof.Answer == credential.Accepted
}

// open gives what is remembered, from now on for these inputs: other inputs begin with no failed attempts.
func (m *Attempts) openEntry(uid string, inputs inputs, now time.Time) entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.byUID[uid]
	if !ok {
		known = entry{firstSeen: now}
	}
	known.proof.InThisPass = false
	part := transientState{}
	if known.transientState != nil {
		part = *known.transientState
	}
	attempts := map[rotation.Step]attempt{}
	if known.inputs == inputs {
		maps.Copy(attempts, part.attempts)
	} else {
		part.rewrites = rewrites{}
	}
	part.attempts = attempts
	known.inputs, known.transientState = inputs, &part
	return known
}

// keep remembers what a pass found out.
func (m *Attempts) keepEntry(uid string, what entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byUID == nil {
		m.byUID = map[string]entry{}
	}
	if what.transientState != nil && what.empty() {
		what.transientState = nil
	}
	m.byUID[uid] = what
}

// place is where the proof was made; empty where that was nowhere in particular.
func (m *entry) proofEndpoint() string {
	if m.transientState == nil {
		return ""
	}
	return m.endpoint
}

// at notes where the remote end is. A proof of another place is forgotten, so that the version is proven anew.
func (m *entry) forEndpoint(endpoint string) {
	if m.endpoint != endpoint {
		m.endpoint, m.proof, m.marker, m.refusal = endpoint, rotation.Proof{}, rotation.Mark{}, nil
	}
}

// away notes from which version the rotation leads away: the attempts of another rotation do not count. The number of
// the candidate does not matter, so that a remote end which refuses one candidate after the other is asked ever less.
func (m *entry) forBaseVersion(base int64) {
	if m.baseSeq != base {
		m.baseSeq, m.attempts = base, map[rotation.Step]attempt{}
	}
}

// about gives what was heard of the candidate of this number.
func (m *entry) candidateFor(seq int64) *candidate {
	if m.candidate.seq != seq {
		m.candidate = candidate{seq: seq}
	}
	return &m.candidate
}

// prove notes an answer about the current version, and why it was refused. Unknown changes nothing: not having asked is not
// news. A version that cannot do its work until somebody acts is never rejected for the second time: that would have it
// staged again, which does not help.
func (m *entry) recordAnswer(seq int64, answer credential.Answer, why error, now time.Time) {
	if answer == credential.Unknown {
		return
	}
	rejections := 0
	if answer == credential.Rejected {
		rejections = 1
		if m.proof.Seq == seq {
			rejections += m.proof.Rejections
		}
		if fault.NeedsHelp(why) {
			rejections = 1
		}
	}
	if m.transientState != nil {
		m.refusal = why
	}
	m.proof = rotation.Proof{Seq: seq, At: now, Answer: answer, Rejections: rejections, InThisPass: true}
	m.marker = rotation.Mark{}
}

// failed notes a failed attempt.
func (m *entry) recordFailure(step rotation.Step, err error, next func(count int) time.Time) attempt {
	a := attempt{count: m.attempts[step].count + 1, err: err}
	a.next = next(a.count)
	m.attempts[step] = a
	return a
}

// worked forgets the failed attempts of a step.
func (m *entry) clearFailure(step rotation.Step) { delete(m.attempts, step) }
