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

// finalRejections is how many times in a row a candidate must be rejected before it is given up: a server that lags behind its own
// changes may reject it once.
const finalRejections = 2

// Attempts is what this process remembers of each object: failed attempts and proofs. Losing it costs a few extra requests to
// the remote system and nothing else: nothing in it is needed to finish what was started.
//
// The zero value is ready to use. It is safe for concurrent use.
type Attempts struct {
	mu    sync.Mutex
	byUID map[string]entry
}

// entry is what is remembered of one object. It is copied in and out; its attempts are never shared.
type entry struct {
	firstSeen time.Time
	proof     rotation.Proof
	baseSeq   int64
	inputs    inputs
	// lastIssued is when this process last published a version of a source without a ledger.
	lastIssued time.Time
	// transientState is never nil while the entry is open, and is dropped when the entry is kept and the state is empty.
	*transientState
}

// inputs is a digest of everything that can make a failing step succeed.
type inputs [16]byte

func inputsOf(parts ...string) inputs {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return inputs(sum[:])
}

// transientState holds the fields that most objects never need: failures, the remote system, and what is under way.
type transientState struct {
	marker    rotation.Marker
	candidate candidate
	// attempts holds the failed attempts of the rotation from version baseSeq, with unchanged inputs.
	attempts map[rotation.Step]attempt
	// endpoint is where the version was proven.
	endpoint string
	// rewrites counts how often the user's Secret had to be written again.
	rewrites rewrites
	// refusals counts the candidates that were refused since the current version was published.
	refusals refusals
	// stuckSince is the problem that the object is stuck on, and since when.
	stuckSince stuckSince
	// deletingSince is when this process first saw that the object is being deleted. withdrawn is true if only the finalizer is
	// left, remains is what could not be cleaned up by then, and reported is true once that was reported.
	deletingSince       time.Time
	withdrawn, reported bool
	remains             Remains
	// retiredSeq is the number of the previous version if it is refused by now and the ledger does not record that yet.
	retiredSeq int64
	// withdrawFailures is how often withdrawing the Secret and the ledger failed.
	withdrawFailures int
	// refusal is the last answer of the remote system that refused the current version, or why that version cannot do its work;
	// nil if no reason was given.
	refusal error
}

func (s *transientState) empty() bool {
	return len(s.attempts) == 0 && s.marker == rotation.Marker{} && s.candidate == candidate{} && s.endpoint == "" && s.rewrites == rewrites{} && s.refusals.count == 0 && s.stuckSince == stuckSince{} &&
		s.deletingSince.IsZero() && s.refusal == nil && s.retiredSeq == 0
}

// issueFloor is the minimum time between two versions of a source without a ledger. Its Secret is the only record: another writer
// that overwrites it again and again would otherwise cause a new key each time. Once that counts as contention,
// contendedIssueFloor applies.
const (
	issueFloor          = 10 * time.Second
	contendedIssueFloor = time.Minute
)

// candidate is what this process learned about the pending version.
type candidate struct {
	seq        int64
	answer     credential.Answer
	rejections int
	// highestMarker is the highest of our markers found in its slot.
	highestMarker int64
}

// attempt is how often a step failed in a row, when it may be retried, and why it last failed.
type attempt struct {
	count int
	next  time.Time
	err   error
}

// Forget drops what is remembered of an object that no longer exists.
func (a *Attempts) Forget(uid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byUID, uid)
}

// Proven reports whether a finished run saw version seq of the object accepted at the endpoint.
func (a *Attempts) Proven(uid string, seq int64, endpoint string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.byUID[uid]
	return known.proofEndpoint() == endpoint && known.proof.Seq == seq && known.proof.Answer == credential.Accepted
}

// openEntry returns what is remembered of an object. If the inputs have changed, it has no failed attempts.
func (a *Attempts) openEntry(uid string, inputs inputs, now time.Time) entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.byUID[uid]
	if !ok {
		known = entry{firstSeen: now}
	}
	known.proof.InThisReconcile = false
	part := transientState{}
	if known.transientState != nil {
		part = *known.transientState
	}
	attempts := map[rotation.Step]attempt{}
	if known.inputs == inputs {
		maps.Copy(attempts, part.attempts)
	} else {
		part.rewrites = rewrites{}
		part.refusals.count = min(part.refusals.count, 1)
	}
	part.attempts = attempts
	known.inputs, known.transientState = inputs, &part
	return known
}

// keepEntry stores what a run learned.
func (a *Attempts) keepEntry(uid string, what entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byUID == nil {
		a.byUID = map[string]entry{}
	}
	if what.transientState != nil && what.empty() {
		what.transientState = nil
	}
	a.byUID[uid] = what
}

// proofEndpoint returns the endpoint of the proof; empty if there is no proof.
func (e *entry) proofEndpoint() string {
	if e.transientState == nil {
		return ""
	}
	return e.endpoint
}

// forEndpoint drops a proof that was made at another endpoint, so that the version is proven again.
func (e *entry) forEndpoint(endpoint string) {
	if e.endpoint != endpoint {
		e.endpoint, e.proof, e.marker, e.refusal = endpoint, rotation.Proof{}, rotation.Marker{}, nil
	}
}

// forBaseVersion drops the attempts of a rotation from another version. The candidate's number does not matter: a remote system
// that rejects one candidate after another gets fewer and fewer requests.
func (e *entry) forBaseVersion(base int64) {
	if e.baseSeq != base {
		e.baseSeq, e.attempts, e.refusals = base, map[rotation.Step]attempt{}, refusals{}
	}
}

// candidateFor returns what is known of the candidate with this number.
func (e *entry) candidateFor(seq int64) *candidate {
	if e.candidate.seq != seq {
		e.candidate = candidate{seq: seq}
	}
	return &e.candidate
}

// recordAnswer records an answer about the current version, and why it was refused. Unknown changes nothing. A version that cannot
// do its work until something else changes never counts as rejected twice: it would be staged again, which does not help.
func (e *entry) recordAnswer(seq int64, answer credential.Answer, why error, now time.Time) {
	if answer == credential.Unknown {
		return
	}
	rejections := 0
	if answer == credential.Rejected {
		rejections = 1
		if e.proof.Seq == seq {
			rejections += e.proof.Rejections
		}
		if fault.NeedsHelp(why) {
			rejections = 1
		}
	}
	if e.transientState != nil {
		e.refusal = why
	}
	e.proof = rotation.Proof{Seq: seq, At: now, Answer: answer, Rejections: rejections, InThisReconcile: true}
	e.marker = rotation.Marker{}
}

// recordFailure records a failed attempt of a step and returns it.
func (e *entry) recordFailure(step rotation.Step, err error, next func(count int) time.Time) attempt {
	a := attempt{count: e.attempts[step].count + 1, err: err}
	a.next = next(a.count)
	e.attempts[step] = a
	return a
}

// clearFailure drops the failed attempts of a step that succeeded.
func (e *entry) clearFailure(step rotation.Step) { delete(e.attempts, step) }
