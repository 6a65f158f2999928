// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/golden"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healthy is a published password, proven an hour ago, and not due for hours.
func healthy() rotation.Observation {
	at := start.Add(-2 * time.Hour)
	return rotation.Observation{
		Now: start, ClockKnown: true, UID: "uid-1", FirstSeen: at,
		Policy: rotation.Policy{
			Interval: 24 * time.Hour, JitterPercent: 10, MaxAge: 72 * time.Hour, Overlap: time.Hour,
			WarnBefore: 24 * time.Hour, AlarmBefore: 4 * time.Hour, ProbeInterval: 3 * time.Hour,
		},
		Traits:      credential.Traits{Durable: true, Provable: true, Revocable: true, Slots: []string{"a", "b"}},
		Fingerprint: "v1",
		Current: &rotation.Version{
			Seq: 4, Slot: "b", Stage: rotation.Current, Fingerprint: "v1", ProposedAt: at, CommittedAt: at, PublishedAt: at,
		},
		LastSeq: 4,
		Target:  rotation.TargetShowsCurrent,
		Proof:   rotation.Proof{Seq: 4, At: start.Add(-time.Hour), Answer: credential.Accepted},
	}
}

type change func(*rotation.Observation)

func pending(stage rotation.Stage) change {
	return func(o *rotation.Observation) {
		o.Pending = &rotation.Version{Seq: 5, Slot: "a", Stage: stage, Fingerprint: "v1", ProposedAt: start.Add(-time.Minute)}
		o.LastSeq = 5
	}
}

func previous(o *rotation.Observation) {
	o.Previous = &rotation.Version{Seq: 3, Slot: "a", Stage: rotation.Previous, Fingerprint: "v1"}
}

func publishedAgo(d time.Duration) change {
	return func(o *rotation.Observation) {
		if o.Current != nil {
			o.Current.PublishedAt = o.Now.Add(-d)
		}
	}
}

func committedAgo(d time.Duration) change {
	return func(o *rotation.Observation) {
		at := o.Now.Add(-d)
		o.Current.ProposedAt, o.Current.CommittedAt, o.Current.PublishedAt = at, at, at
	}
}

func overlapOf(d time.Duration) change {
	return func(o *rotation.Observation) { o.Current.Overlap = d }
}

func askedToRotate(o *rotation.Observation) {
	o.Rotate = rotation.Request{Token: "now", Recorded: true}
}

func noCurrent(o *rotation.Observation) {
	o.Current, o.Target, o.Proof = nil, rotation.TargetMissing, rotation.Proof{}
}

func rejectedTimes(n int, ago time.Duration, mark rotation.Marker) change {
	return func(o *rotation.Observation) {
		o.Proof = rotation.Proof{Seq: 4, At: o.Now.Add(-ago), Answer: credential.Rejected, Rejections: n}
		o.Marker = mark
	}
}

func provenNow(o *rotation.Observation) { o.Proof.At, o.Proof.InThisReconcile = o.Now, true }

func due(o *rotation.Observation) {
	if o.Current != nil {
		o.Current.CommittedAt = o.Now.Add(-25 * time.Hour)
	}
}

func unmet(o *rotation.Observation) {
	o.Preconditions = []rotation.Unmet{{Reason: "ServerNotFound", Message: "DatabaseServer orders not found."}}
}

func braked(o *rotation.Observation) {
	o.Preconditions = []rotation.Unmet{{Reason: "PolicyNotFound", Message: "RotationPolicy orders not found.", Brake: true}}
}

func handedOver(o *rotation.Observation) { o.TakeOver = rotation.Handover{From: "c/web/orders"} }

func takenOver(o *rotation.Observation) {
	o.TakeOver.Recorded, o.TakeOver.HonoredAt = true, o.Now.Add(-time.Hour)
}

func inherited(o *rotation.Observation) {
	o.TakeOver.Inherited, o.Target = true, rotation.TargetDiffers
}

// with returns a healthy observation with changes applied.
func with(changes ...change) rotation.Observation {
	o := healthy()
	for _, c := range changes {
		c(&o)
	}
	return o
}

// judgment is the expected result of Next. An empty reason or a zero time is not compared.
type judgment struct {
	see    rotation.Observation
	row    string
	step   rotation.Step
	reason string
	wake   time.Time
}

var judgments = map[string]judgment{
	"a healthy credential is not changed until its proof is old": {see: with(), row: "quiet", step: rotation.StepNone, reason: "NothingDue", wake: start.Add(time.Hour)},
	"what was handed over is taken over":                         {see: with(handedOver), row: "take-over", step: rotation.StepTakeOver, reason: "HandedOver"},
	"what was handed over is taken over by a first version":      {see: with(noCurrent, handedOver), row: "take-over", step: rotation.StepTakeOver},
	"what was taken over is not taken over again":                {see: with(handedOver, takenOver), row: "quiet", step: rotation.StepNone},
	"nothing is taken over while rotation is suspended":          {see: with(handedOver, func(o *rotation.Observation) { o.Suspended = true }), row: "suspended", step: rotation.StepNone, reason: "Suspended"},
	"nothing is taken over while the policy is missing":          {see: with(handedOver, braked), row: "suspended", step: rotation.StepNone, reason: "PolicyNotFound"},
	"nothing is taken over that cannot be served":                {see: with(handedOver, unmet, due), row: "rotate", step: rotation.StepNone, reason: "ServerNotFound"},
	"nothing is taken over by a deleted object":                  {see: with(handedOver, inherited, func(o *rotation.Observation) { o.Deleting = true }), row: "withdraw", step: rotation.StepWithdraw},
	"an inherited ledger is taken over before it is published":   {see: with(handedOver, inherited), row: "inherited", step: rotation.StepTakeOver, reason: "HandedOver"},
	"an inherited ledger waits while rotation is suspended":      {see: with(handedOver, inherited, func(o *rotation.Observation) { o.Suspended = true }), row: "inherited", step: rotation.StepNone, reason: "Suspended"},
	"an inherited ledger waits for the policy":                   {see: with(handedOver, inherited, braked), row: "inherited", step: rotation.StepNone, reason: "PolicyNotFound"},
	"an inherited ledger waits for its references":               {see: with(handedOver, inherited, unmet), row: "inherited", step: rotation.StepNone, reason: "ServerNotFound"},
	"a handover that is no longer requested is forgotten":        {see: with(func(o *rotation.Observation) { o.TakeOver.Lapsed = true }), row: "record", step: rotation.StepRecord},
	"a login that its former owner took back is reported": {see: with(handedOver, takenOver, rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerForeign, Owner: "c/web/orders"})),
		row: "refused", step: rotation.StepNone, reason: "Fenced", wake: start.Add(10 * time.Minute)},
	"a deleted object is withdrawn":                               {see: with(func(o *rotation.Observation) { o.Deleting = true }), row: "withdraw", step: rotation.StepWithdraw, reason: "Deleting"},
	"a Secret that was deleted is written again":                  {see: with(func(o *rotation.Observation) { o.Target = rotation.TargetMissing }), row: "publish", step: rotation.StepPublish, reason: "SecretMissing"},
	"a Secret that was edited is written again":                   {see: with(func(o *rotation.Observation) { o.Target = rotation.TargetDiffers }), row: "publish", step: rotation.StepPublish, reason: "SecretDiffers"},
	"a Secret that is shown but not recorded is recorded":         {see: with(func(o *rotation.Observation) { o.Current.PublishedAt = time.Time{} }), row: "publish", step: rotation.StepPublish, reason: "Published"},
	"a Secret is repaired although rotation is suspended":         {see: with(func(o *rotation.Observation) { o.Target, o.Suspended = rotation.TargetMissing, true }), row: "publish", step: rotation.StepPublish},
	"a request to rotate is recorded first":                       {see: with(func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "record", step: rotation.StepRecord, reason: "RequestSeen"},
	"a request to retire is recorded first":                       {see: with(func(o *rotation.Observation) { o.RetirePrevious.Token = "x" }), row: "record", step: rotation.StepRecord},
	"a request is recorded although rotation is suspended":        {see: with(func(o *rotation.Observation) { o.Rotate.Token, o.Suspended = "x", true }), row: "record", step: rotation.StepRecord},
	"a request before the first version is honored by it":         {see: with(noCurrent, func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "missing", step: rotation.StepPropose},
	"a certificate's request is honored, not recorded":            {see: with(local, func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "rotate", step: rotation.StepPropose, reason: "RotateRequested"},
	"a certificate's request is recorded if it has to wait":       {see: with(local, unmet, func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "record", step: rotation.StepRecord},
	"a suspended credential is not changed":                       {see: with(due, func(o *rotation.Observation) { o.Suspended = true }), row: "suspended", step: rotation.StepNone, reason: "Suspended"},
	"a candidate of a suspended credential waits":                 {see: with(pending(rotation.Verified), func(o *rotation.Observation) { o.Suspended = true }), row: "suspended", step: rotation.StepNone},
	"another owner's Secret blocks everything":                    {see: with(due, func(o *rotation.Observation) { o.Target = rotation.TargetForeign }), row: "foreign-secret", step: rotation.StepNone, reason: "SecretConflict"},
	"a restored ledger is raised above the marker":                {see: with(rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerOurs, Seq: 7})), row: "renumber", step: rotation.StepRenumber, reason: "Restored"},
	"a restored login is set again":                               {see: with(rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerOurs, Seq: 2})), row: "reassert", step: rotation.StepReassert, reason: "Restored"},
	"a login that is gone is recreated":                           {see: with(rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerAbsent})), row: "reassert", step: rotation.StepReassert},
	"a login that lost its marker is set again":                   {see: with(rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerMissing})), row: "reassert", step: rotation.StepReassert},
	"one rejection is probed again soon":                          {see: with(rejectedTimes(1, 0, rotation.Marker{})), row: "quiet", step: rotation.StepNone, wake: start.Add(10 * time.Second)},
	"one rejection is probed again, now":                          {see: with(rejectedTimes(1, 11*time.Second, rotation.Marker{})), row: "probe", step: rotation.StepProbe},
	"a login of another owner is not changed":                     {see: with(rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerForeign, Seq: 9})), row: "refused", step: rotation.StepNone, reason: "CredentialRejected", wake: start.Add(10 * time.Minute)},
	"a login of another owner is probed again":                    {see: with(rejectedTimes(2, 10*time.Minute, rotation.Marker{State: rotation.MarkerForeign, Seq: 9})), row: "refused", step: rotation.StepProbe},
	"a refused login without a readable marker is not changed":    {see: with(rejectedTimes(3, 0, rotation.Marker{})), row: "refused", step: rotation.StepNone, reason: "CredentialRejected"},
	"a candidate continues although what is published is refused": {see: with(pending(rotation.Staged), rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerForeign})), row: "verify", step: rotation.StepVerify},
	"the previous version stays during the overlap":               {see: with(previous, publishedAgo(30*time.Minute)), row: "overlap", step: rotation.StepNone, reason: "Overlap", wake: start.Add(30 * time.Minute)},
	"a minted secret that is refused is replaced": {see: with(minted, rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerOurs, Seq: 4})),
		row: "replace", step: rotation.StepPropose, reason: "CredentialRejected"},
	"a certificate that is refused where it is used is replaced":   {see: with(proven, rejectedTimes(2, 0, rotation.Marker{})), row: "replace", step: rotation.StepPropose},
	"a young version that is refused waits for its replacement":    {see: with(proven, committedAgo(20*time.Minute), rejectedTimes(2, 0, rotation.Marker{})), row: "replace", step: rotation.StepNone, reason: "CredentialRejected", wake: start.Add(10 * time.Minute)},
	"a young version that is refused is probed again":              {see: with(minted, committedAgo(20*time.Minute), rejectedTimes(2, 10*time.Minute, rotation.Marker{})), row: "replace", step: rotation.StepProbe, reason: "CredentialRejected"},
	"a young version that is refused is replaced on request":       {see: with(proven, committedAgo(20*time.Minute), rejectedTimes(2, 0, rotation.Marker{}), askedToRotate), row: "replace", step: rotation.StepPropose},
	"one refusal of a minted secret does not replace it":           {see: with(minted, rejectedTimes(1, time.Minute, rotation.Marker{})), row: "probe", step: rotation.StepProbe},
	"a replacement waits for its preconditions":                    {see: with(minted, rejectedTimes(2, 0, rotation.Marker{}), unmet), row: "replace", step: rotation.StepNone, reason: "ServerNotFound"},
	"a replacement continues although what it replaces is refused": {see: with(minted, pending(rotation.Staged), rejectedTimes(2, 0, rotation.Marker{})), row: "verify", step: rotation.StepVerify},
	"a replacement waits for the overlap of its predecessor":       {see: with(minted, previous, publishedAgo(30*time.Minute), rejectedTimes(2, 0, rotation.Marker{})), row: "overlap", step: rotation.StepNone, reason: "Overlap"},
	"after the overlap a version is retired though its successor can only be replaced": {
		see: with(minted, previous, publishedAgo(time.Hour), rejectedTimes(2, 0, rotation.Marker{})), row: "retire", step: rotation.StepRetire, reason: "OverlapEnded"},
	"a version stays after the overlap while its successor is refused and cannot be replaced yet": {
		see: with(minted, previous, committedAgo(20*time.Minute), overlapOf(10*time.Minute), rejectedTimes(2, 0, rotation.Marker{})),
		row: "overlap", step: rotation.StepNone, reason: "Overlap", wake: start.Add(10 * time.Minute)},
	"a version stays after the overlap while its successor is refused and nothing can replace that": {
		see: with(minted, previous, publishedAgo(time.Hour), rejectedTimes(2, 0, rotation.Marker{}), unmet),
		row: "overlap", step: rotation.StepNone, reason: "ServerNotFound"},
	"a user retires a version though its successor is refused and cannot be replaced yet": {
		see: with(minted, previous, committedAgo(20*time.Minute), rejectedTimes(2, 0, rotation.Marker{}), func(o *rotation.Observation) {
			o.RetirePrevious = rotation.Request{Token: "x", Recorded: true}
		}),
		row: "retire", step: rotation.StepRetire, reason: "RetireRequested"},
	"a candidate is discarded though what is published can only be replaced": {
		see: with(minted, pending(rotation.Staged), rejectedTimes(2, 0, rotation.Marker{}), func(o *rotation.Observation) { o.Fingerprint = "v2" }),
		row: "discard", step: rotation.StepDiscard},
	"a request to rotate a certificate that takes long is recorded":   {see: with(late, func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "record", step: rotation.StepRecord},
	"a request to rotate a certificate that is signed at once is not": {see: with(certificate, func(o *rotation.Observation) { o.Rotate.Token = "x" }), row: "rotate", step: rotation.StepPropose},
	"a candidate of a source that cannot be proven is discarded unproven": {
		see: with(late, pending(rotation.Staged), func(o *rotation.Observation) { o.Fingerprint = "v2" }), row: "discard", step: rotation.StepDiscard},
	"a candidate is kept while its source cannot be opened": {
		see: with(late, pending(rotation.Staged), unfitting, closed), row: "verify", step: rotation.StepVerify},
	"a candidate that expired is discarded though its source cannot be opened": {
		see: with(late, pending(rotation.Staged), unfitting, closed, expiring(start)), row: "discard", step: rotation.StepDiscard},
	"a login's candidate that does not fit is discarded though the server is gone": {
		see: with(noCurrent, pending(rotation.Staged), unfitting, closed), row: "discard", step: rotation.StepDiscard},
	"a candidate that expired before it was published is discarded": {
		see: with(late, pending(rotation.Verified), expiring(start)), row: "discard", step: rotation.StepDiscard, reason: "CandidateRejected"},
	"a candidate that has not expired is verified": {
		see: with(late, pending(rotation.Staged), expiring(start.Add(time.Second))), row: "verify", step: rotation.StepVerify},
	"a candidate that expired is discarded once the current version is proven": {
		see: with(proven, pending(rotation.Staged), expiring(start)), row: "discard", step: rotation.StepProbe, reason: "CandidateRejected"},
	"a candidate that does not progress is discarded for a request that came after it": {
		see: with(late, pending(rotation.Staged), proposedAgo(10*time.Minute), rotateRequested), row: "discard", step: rotation.StepDiscard, reason: "RotateRequested"},
	"a request waits for a candidate that may still progress": {
		see: with(late, pending(rotation.Proposed), proposedAgo(9*time.Minute), rotateRequested), row: "stage", step: rotation.StepStage, wake: start.Add(time.Minute)},
	"a request is not answered by discarding the candidate that was created for it": {
		see: with(late, pending(rotation.Proposed), proposedAgo(time.Hour), rotateRequested, func(o *rotation.Observation) { o.Pending.Request = "x" }),
		row: "stage", step: rotation.StepStage},
	"a verified candidate honors a request that came after it": {
		see: with(late, pending(rotation.Verified), proposedAgo(time.Hour), rotateRequested), row: "commit", step: rotation.StepCommit},
	"a request discards no candidate that the remote system would have to refuse": {
		see: with(pending(rotation.Staged), proposedAgo(time.Hour), rotateRequested), row: "verify", step: rotation.StepVerify},
	"an old answer about a source that cannot be proven says nothing": {see: with(late, rejectedTimes(2, 0, rotation.Marker{})), row: "quiet", step: rotation.StepNone},
	"after the overlap the current version is proven first":           {see: with(previous, publishedAgo(time.Hour)), row: "retire", step: rotation.StepProbe, reason: "OverlapEnded"},
	"after the overlap the previous version is retired":               {see: with(previous, publishedAgo(time.Hour), provenNow), row: "retire", step: rotation.StepRetire, reason: "OverlapEnded"},
	"a user ends the overlap": {see: with(previous, publishedAgo(time.Minute), provenNow, func(o *rotation.Observation) {
		o.RetirePrevious = rotation.Request{Token: "x", Recorded: true}
	}), row: "retire", step: rotation.StepRetire, reason: "RetireRequested"},
	"a user ends the overlap although the clock is unknown": {see: with(previous, publishedAgo(time.Minute), provenNow, func(o *rotation.Observation) {
		o.RetirePrevious, o.ClockKnown = rotation.Request{Token: "x", Recorded: true}, false
	}), row: "retire", step: rotation.StepRetire},
	"nothing is retired by an unknown clock":                   {see: with(previous, publishedAgo(2*time.Hour), provenNow, func(o *rotation.Observation) { o.ClockKnown = false }), row: "overlap", step: rotation.StepNone, reason: "ClockSkew", wake: start.Add(time.Minute)},
	"nothing is retired by a wrong clock":                      {see: with(previous, publishedAgo(2*time.Hour), provenNow, func(o *rotation.Observation) { o.ClockOff = -time.Minute }), row: "overlap", step: rotation.StepNone, reason: "ClockSkew"},
	"nothing is retired while the current version is refused":  {see: with(previous, publishedAgo(2*time.Hour), rejectedTimes(1, 0, rotation.Marker{})), row: "overlap", step: rotation.StepNone, reason: "Overlap", wake: start.Add(10 * time.Second)},
	"the overlap that was fixed counts, not the policy's":      {see: with(previous, publishedAgo(2*time.Hour), func(o *rotation.Observation) { o.Current.Overlap = 3 * time.Hour }), row: "overlap", step: rotation.StepNone},
	"the current version is proven during a long overlap":      {see: with(previous, publishedAgo(time.Minute), func(o *rotation.Observation) { o.Proof.At = start.Add(-4 * time.Hour) }), row: "overlap", step: rotation.StepProbe},
	"a due rotation waits for the end of the overlap":          {see: with(previous, publishedAgo(30*time.Minute), due), row: "overlap", step: rotation.StepNone},
	"a candidate that does not fit needs a proven current one": {see: with(pending(rotation.Staged), unfitting), row: "discard", step: rotation.StepProbe, reason: "SpecChanged"},
	"a candidate that does not fit is discarded":               {see: with(pending(rotation.Staged), unfitting, provenNow), row: "discard", step: rotation.StepDiscard, reason: "SpecChanged"},
	"a candidate that was refused is discarded":                {see: with(pending(rotation.Staged), refusedCandidate, provenNow), row: "discard", step: rotation.StepDiscard, reason: "CandidateRejected"},
	"a first candidate that does not fit is discarded":         {see: with(noCurrent, pending(rotation.Proposed), unfitting), row: "discard", step: rotation.StepDiscard},
	"a certificate's candidate that does not fit is discarded": {see: with(local, pending(rotation.Staged), unfitting), row: "discard", step: rotation.StepDiscard},
	"a candidate is kept while the current version is refused": {see: with(pending(rotation.Staged), unfitting, rejectedTimes(1, 0, rotation.Marker{})), row: "verify", step: rotation.StepVerify},
	"a discarded candidate is removed":                         {see: with(pending(rotation.Discarded)), row: "discarding", step: rotation.StepDiscard},
	"a discarded candidate never comes back":                   {see: with(pending(rotation.Discarded), unfitting), row: "discarding", step: rotation.StepDiscard},
	"a candidate beside a previous version waits":              {see: with(pending(rotation.Proposed), previous, publishedAgo(time.Minute)), row: "guard", step: rotation.StepNone, reason: "LedgerInvalid"},
	"an unknown stage is not guessed":                          {see: with(pending("Frozen")), row: "guard", step: rotation.StepNone, reason: "LedgerInvalid"},
	"a previous version without a current one is not guessed":  {see: with(noCurrent, previous), row: "guard", step: rotation.StepNone, reason: "LedgerInvalid"},
	"a proposed candidate is staged":                           {see: with(pending(rotation.Proposed)), row: "stage", step: rotation.StepStage, reason: "Candidate"},
	"a staged candidate is verified":                           {see: with(pending(rotation.Staged)), row: "verify", step: rotation.StepVerify},
	"a verified candidate is committed":                        {see: with(pending(rotation.Verified)), row: "commit", step: rotation.StepCommit},
	"a credential without a version gets one":                  {see: with(noCurrent), row: "missing", step: rotation.StepPropose, reason: "Missing"},
	"a credential without a version waits for its references":  {see: with(noCurrent, unmet), row: "missing", step: rotation.StepNone, reason: "ServerNotFound"},
	"a changed spec asks for another version":                  {see: with(func(o *rotation.Observation) { o.Fingerprint = "v2" }), row: "rotate", step: rotation.StepPropose, reason: "SpecChanged"},
	"a user asks for another version":                          {see: with(func(o *rotation.Observation) { o.Rotate = rotation.Request{Token: "x", Recorded: true} }), row: "rotate", step: rotation.StepPropose, reason: "RotateRequested"},
	"an old request is not honored twice":                      {see: with(func(o *rotation.Observation) { o.Rotate = rotation.Request{Token: "x", Recorded: true, Honored: true} }), row: "quiet", step: rotation.StepNone},
	"a version that is due is replaced":                        {see: with(due), row: "rotate", step: rotation.StepPropose, reason: "Due"},
	"a version that is due waits for its references":           {see: with(due, unmet), row: "rotate", step: rotation.StepNone, reason: "ServerNotFound"},
	"an old proof is renewed":                                  {see: with(func(o *rotation.Observation) { o.Proof.At = start.Add(-3 * time.Hour) }), row: "probe", step: rotation.StepProbe, reason: "ProofOld"},
	"a proof of another version does not count":                {see: with(func(o *rotation.Observation) { o.Proof.Seq = 3 }), row: "probe", step: rotation.StepProbe},
	"a certificate is never probed":                            {see: with(local, func(o *rotation.Observation) { o.Proof = rotation.Proof{} }), row: "quiet", step: rotation.StepNone},
	"a version from the future is not due, nor not due": {see: with(func(o *rotation.Observation) {
		o.Current.CommittedAt = start.Add(6 * time.Minute)
	}), row: "clock", step: rotation.StepNone, reason: "ClockSkew"},
	"a version from the future does not keep an edited spec waiting": {see: with(func(o *rotation.Observation) {
		o.Current.CommittedAt, o.Fingerprint = start.Add(6*time.Minute), "v2"
	}), row: "rotate", step: rotation.StepPropose},
}

// local turns it into a certificate.
func local(o *rotation.Observation) {
	o.Traits = credential.Traits{}
	o.Proof = rotation.Proof{}
	if o.Current != nil {
		o.Current.Slot = ""
	}
}

func closed(o *rotation.Observation) { o.SourceClosed = true }

// expiring makes the candidate expire.
func expiring(at time.Time) change {
	return func(o *rotation.Observation) { o.Pending.NotAfter = at }
}

func proposedAgo(d time.Duration) change {
	return func(o *rotation.Observation) { o.Pending.ProposedAt = o.Now.Add(-d) }
}

func rotateRequested(o *rotation.Observation) {
	o.Rotate = rotation.Request{Token: "x", Recorded: true}
}

func unfitting(o *rotation.Observation) { o.Pending.Fingerprint = "v0" }

func refusedCandidate(o *rotation.Observation) { o.PendingAnswer = credential.Rejected }

func (j judgment) wrong(rows []rotation.Row) string {
	d := rotation.Decide(rows, j.see)
	switch {
	case d.Row != j.row || d.Step != j.step:
		return fmt.Sprintf("row %q says %s, want row %q to say %s", d.Row, d.Step, j.row, j.step)
	case j.reason != "" && d.Reason != j.reason:
		return fmt.Sprintf("reason %s, want %s", d.Reason, j.reason)
	case !j.wake.IsZero() && !d.WakeAt.Equal(j.wake):
		return fmt.Sprintf("wakes at %s, want %s", d.WakeAt, j.wake)
	}
	return ""
}

func TestEveryRowDecidesWhatItPromises(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for name, tc := range judgments {
		covered[tc.row] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if wrong := tc.wrong(rotation.Rows()); wrong != "" {
				t.Error(wrong)
			}
			d := rotation.Next(tc.see)
			if !strings.HasSuffix(d.Message, ".") && d.Unmet == nil {
				t.Errorf("the message is not a sentence: %q", d.Message)
			}
			if !d.WakeAt.After(tc.see.Now) {
				t.Errorf("it sleeps until %s, which is not after %s", d.WakeAt, tc.see.Now)
			}
		})
	}
	for _, row := range rotation.Rows() {
		if !covered[row.Name] {
			t.Errorf("no case for row %q", row.Name)
		}
	}
}

func TestTheTableIsPrintedForTheDocs(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	names := map[string]bool{}
	for i, row := range rotation.Rows() {
		if names[row.Name] || row.Name == "" || row.If == "" || row.Then == "" {
			t.Errorf("row %d needs a unique name and a description", i+1)
		}
		names[row.Name] = true
		_, _ = fmt.Fprintf(&b, "%2d %-14s if %s: %s\n", i+1, row.Name, row.If, row.Then)
	}
	golden.Check(t, "testdata/table.txt", b.String())
}

func TestFailureReasonsAreThoseOfPackageFault(t *testing.T) {
	t.Parallel()
	calm := []string{
		rotation.ReasonDeleting, rotation.ReasonSecretMissing, rotation.ReasonSecretDiffers, rotation.ReasonPublished, rotation.ReasonRequested,
		rotation.ReasonSuspended, rotation.ReasonRestored, rotation.ReasonOverlapEnded, rotation.ReasonRetireRequested, rotation.ReasonOverlap,
		rotation.ReasonSpecChanged, rotation.ReasonCandidate, rotation.ReasonMissing, rotation.ReasonRotateRequested, rotation.ReasonDue,
		rotation.ReasonProofOld, rotation.ReasonNothingDue, rotation.ReasonHandedOver,
	}
	failures := []fault.Reason{fault.SecretConflict, fault.LedgerInvalid, fault.CandidateRejected, fault.CredentialRejected, fault.ClockSkew, fault.Fenced, "ServerNotFound", "PolicyNotFound"}
	for name, tc := range judgments {
		reason := rotation.Next(tc.see).Reason
		if !slices.Contains(calm, reason) && !slices.Contains(failures, fault.Reason(reason)) {
			t.Errorf("%s: the reason %q is neither a calm one nor of package fault", name, reason)
		}
	}
}
