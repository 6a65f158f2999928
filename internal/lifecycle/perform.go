// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// perform does exactly one step. It decides nothing.
func (r *run) perform(ctx context.Context, step rotation.Step) error {
	if r.Unowned != nil && step != rotation.StepProbe && step != rotation.StepWithdraw {
		return r.Unowned
	}
	if err := r.checkStillRequested(ctx, step); err != nil {
		return err
	}
	switch step {
	case rotation.StepRecord:
		return r.saveLedger(ctx, "recording a request", func(l *secretstore.Ledger) {
			r.recordRequests(l)
			if r.Former == "" {
				l.TakeOver = secretstore.Handover{}
			}
		})
	case rotation.StepTakeOver:
		return r.takeOver(ctx)
	case rotation.StepPropose:
		return r.propose(ctx)
	case rotation.StepStage:
		return r.stage(ctx)
	case rotation.StepVerify:
		return r.verify(ctx)
	case rotation.StepCommit:
		return r.commit(ctx)
	case rotation.StepPublish:
		return r.publish(ctx)
	case rotation.StepProbe:
		return r.probe(ctx)
	case rotation.StepRetire:
		return r.retire(ctx)
	case rotation.StepDiscard:
		return r.discard(ctx)
	case rotation.StepRenumber:
		return r.renumber(ctx)
	case rotation.StepReassert:
		return r.reassert(ctx)
	case rotation.StepWithdraw:
		return r.withdraw(ctx)
	case rotation.StepNone:
	}
	return fmt.Errorf("performing %q: no such step", step)
}

// checkStillRequested returns an error if the object no longer asks for the step. Otherwise two processes, one with an old cache,
// would create versions in turn, and an old one would honor a request a second time.
func (r *run) checkStillRequested(ctx context.Context, step rotation.Step) error {
	obeys := step == rotation.StepRecord || step == rotation.StepDiscard || step == rotation.StepPropose
	asked := obeys && r.snapshot.Overtaken && r.out.Decision.Reason != rotation.ReasonDue
	handover := step == rotation.StepTakeOver || step == rotation.StepRecord && r.out.Observation.TakeOver.Lapsed
	if r.Unchanged == nil || !asked && !handover {
		return nil
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	return r.Unchanged(ctx)
}

// saveLedger writes a changed copy of the ledger, by compare-and-swap on what this run last read or wrote.
func (r *run) saveLedger(ctx context.Context, doing string, change func(*secretstore.Ledger)) error {
	ledger := r.snapshot.Ledger.Clone()
	change(&ledger)
	snapshot, err := r.Store.Save(ctx, ledger)
	if err := r.applyWrite(snapshot, err); err != nil {
		return fault.During(err, "%s", doing)
	}
	return nil
}

func (r *run) propose(ctx context.Context) error {
	o := r.out.Observation
	v := rotation.Version{
		Seq: rotation.NextSeq(o), Slot: rotation.NextSlot(o), Stage: rotation.Proposed, Fingerprint: r.Fingerprint, ProposedAt: o.Now,
	}
	if err := r.mayIssue(o.Now); err != nil {
		return err
	}
	marks, err := r.ownMarkers(ctx)
	if err != nil {
		return fault.During(err, "creating version %d", v.Seq)
	}
	var survivor secretstore.Survivor
	if o.Current == nil {
		v, survivor = placeAmongMarkers(v, r.Traits, marks)
	}
	ref := r.ref(v)
	if o.Current == nil {
		if err := r.preflight(ctx, ref, r.stepTimeout()); err != nil {
			return fault.During(err, "checking the remote system before anything is created")
		}
	}
	if r.Source == nil {
		return fault.During(r.noSource(), "creating version %d", v.Seq)
	}
	material, err := r.Source.Propose(ref)
	if err != nil {
		return fault.During(err, "creating version %d", v.Seq)
	}
	r.entry.candidate = candidate{} // an earlier one may have had the same number
	return r.saveLedger(ctx, "recording the new version", func(l *secretstore.Ledger) {
		l.Pending, l.LastSeq, l.Survivor = &secretstore.Record{Version: v, Material: material}, v.Seq, survivor
		if r.Traits.Durable {
			r.recordRequests(l)
		}
		if rotation.Disposable(r.Traits) {
			l.Pending.Request = l.Rotate.Seen
		}
	})
}

// stage makes the remote system accept the pending version. It may do so because the version is recorded: it was read from the ledger.
func (r *run) stage(ctx context.Context) error {
	pending := r.snapshot.Ledger.Pending
	ref := r.ref(pending.Version)
	staged, err := r.callStage(ctx, ref, pending.Material)
	if err == nil {
		err = r.checkReceived(ref.Seq, staged)
	}
	if err != nil {
		r.handleFencedCandidate(ctx, ref, err)
		r.handleDeniedCandidate(ref, err)
		return fault.During(err, "staging version %d", ref.Seq)
	}
	version := pending.Version
	version.Stage, version.NotAfter = rotation.Staged, staged.NotAfter
	err = r.saveLedger(ctx, "recording that the version is staged", func(l *secretstore.Ledger) {
		l.Pending = &secretstore.Record{Version: version, Material: staged.Material}
	})
	if IsConflict(err) || apierrors.IsNotFound(err) {
		r.revokeOrphan(ctx, ref, staged.Material)
	}
	return err
}

// checkReceived returns an error if what was staged has already expired. It could only be discarded, and another request would get the
// same answer: the failed step waits longer and longer instead. A source should refuse it itself, with a reason of its own.
func (r *run) checkReceived(seq int64, staged credential.Staged) error {
	if at := staged.NotAfter; !at.IsZero() && !r.now().Before(at) {
		return fault.Permanent(fault.CandidateRejected, fmt.Errorf(
			"version %d expired at %s, before it was received: compare the remote system's clock with rekey's", seq, fault.FormatTime(at)))
	}
	return nil
}

func (r *run) callStage(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Staged, error) {
	if r.Source == nil {
		return credential.Staged{}, r.noSource()
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	return r.Source.Stage(ctx, credential.Change{Ref: ref, Material: material, StillWanted: r.stillWanted()})
}

func (s Credential) noSource() error {
	if s.SourceErr != nil {
		return s.SourceErr
	}
	return errors.New("the source of the credential could not be opened")
}

// callVerify uses a version as a client would. It may take twice the timeout of a call: a remote system may delay a refusal on purpose,
// and a refusal is confirmed before it counts.
func (r *run) callVerify(ctx context.Context, record *secretstore.Record) (credential.Answer, error) {
	if r.Source == nil {
		return credential.Unknown, r.noSource()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*r.stepTimeout())
	defer cancel()
	if r.snapshot.Ledger.Current == nil {
		ctx = credential.First(ctx)
	}
	answer, err := r.Source.Verify(ctx, r.ref(record.Version), record.Material)
	if answer == credential.Unknown && err == nil {
		err = errors.New("the remote system gave no clear answer")
	}
	return answer, err
}

func (r *run) verify(ctx context.Context) error {
	pending := r.snapshot.Ledger.Pending
	answer, err := r.callVerify(ctx, pending)
	about := r.entry.candidateFor(pending.Seq)
	switch answer {
	case credential.Unknown:
		return fault.During(err, "verifying version %d", pending.Seq)
	case credential.Rejected:
		defective := rotation.Disposable(r.Traits) && !r.Traits.Provable
		if fault.NeedsHelp(err) && !defective {
			// Another candidate would fail in the same way.
			return fmt.Errorf("verifying version %d: %w", pending.Seq, err)
		}
		about.answer = answer
		about.rejections++
		if defective {
			about.rejections = finalRejections // nothing was asked that could answer differently
		}
		if err == nil {
			err = errors.New("the remote system rejected it")
		}
		if fault.Classify(err) == fault.ClassTransient {
			err = fault.Transient(fault.ReasonOf(err, fault.CandidateRejected), err)
		}
		r.noteRefusal(pending.Seq, err)
		return fault.During(err, "verifying version %d", pending.Seq)
	case credential.Accepted:
	}
	*about = candidate{seq: pending.Seq, answer: answer}
	return r.saveLedger(ctx, "recording that the version is verified", func(l *secretstore.Ledger) { l.Pending.Stage = rotation.Verified })
}

// commit makes the pending version the current one, in one write.
func (r *run) commit(ctx context.Context) error {
	now, seq := r.out.Observation.Now, r.snapshot.Ledger.Pending.Seq
	err := r.saveLedger(ctx, "committing the new version", func(l *secretstore.Ledger) {
		switch {
		case !r.Traits.Revocable:
		case l.Current != nil:
			l.Previous = l.Current
			l.Previous.Stage = rotation.Previous
		default:
			l.Previous = l.Survivor.Version()
		}
		l.Current, l.Pending = l.Pending, nil
		l.Current.Stage, l.Current.CommittedAt = rotation.Current, now
		if r.Traits.Revocable {
			l.Current.Overlap = r.Policy.Overlap
		} else {
			// The commit is the write of the user's Secret.
			l.Current.PublishedAt = now
			r.recordRequests(l)
		}
		l.Rotate.Honored = l.Rotate.Seen
		if l.Previous == nil {
			markRetireHonored(l)
		}
	})
	if !r.Traits.Revocable && (err == nil || IsConflict(err)) {
		r.noteIssue(now)
	}
	if err == nil && r.entry.candidateFor(seq).answer == credential.Accepted {
		r.entry.recordAnswer(seq, credential.Accepted, nil, now)
	}
	return err
}

// publish writes the user's Secret, then records when. If it was interrupted in between, the next call does the second part.
func (r *run) publish(ctx context.Context) error {
	if r.snapshot.Target != rotation.TargetShowsCurrent {
		if err := r.noteRewrite(); err != nil {
			return err
		}
		if err := r.applyWrite(r.Store.Publish(ctx)); err != nil {
			return fault.During(err, "writing the Secret")
		}
	}
	if r.snapshot.Target != rotation.TargetShowsCurrent || !r.snapshot.Ledger.Current.PublishedAt.IsZero() {
		return nil
	}
	return r.saveLedger(ctx, "recording when the Secret was written", func(l *secretstore.Ledger) { l.Current.PublishedAt = r.now() })
}

// probe uses the current version. After a second rejection in a row it reads the login's owner; the rejection counts only if
// that succeeds, because a version that is known to be refused is not checked again for minutes.
func (r *run) probe(ctx context.Context) error {
	current := r.snapshot.Ledger.Current
	answer, err := r.callVerify(ctx, current)
	if answer == credential.Unknown {
		return fault.During(err, "proving version %d", current.Seq)
	}
	proof, mark := r.entry.proof, r.entry.marker
	r.entry.recordAnswer(current.Seq, answer, err, r.now())
	if answer == credential.Rejected && fault.NeedsHelp(err) {
		return fmt.Errorf("proving version %d: %w", current.Seq, err)
	}
	if r.entry.proof.Rejections < finalRejections {
		return nil
	}
	if r.entry.marker, err = r.observeMarker(ctx, r.ref(current.Version)); err != nil {
		r.entry.proof, r.entry.marker = proof, mark
		return fmt.Errorf("version %d was refused again: %w", current.Seq, err)
	}
	return nil
}

// retire makes the remote system refuse the previous version, then drops that version from the ledger.
func (r *run) retire(ctx context.Context) error {
	previous := r.snapshot.Ledger.Previous
	if err := r.callRetire(ctx, r.ref(previous.Version), previous.Material); err != nil {
		return fault.During(err, "retiring version %d", previous.Seq)
	}
	r.entry.retiredSeq = previous.Seq
	return r.saveLedger(ctx, "recording that the previous version is retired", func(l *secretstore.Ledger) {
		l.Previous = nil
		if previous.Seq >= l.RetireThrough {
			markRetireHonored(l)
		}
	})
}

func (r *run) callRetire(ctx context.Context, ref credential.Ref, material credential.Material) error {
	if r.Source == nil {
		return r.noSource()
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	return r.Source.Retire(ctx, credential.Change{Ref: ref, Material: material, StillWanted: r.stillWanted()})
}

// discard first records that the pending version will never be published, so that a process that still means to commit it fails at the
// ledger. Only then is the remote system called.
func (r *run) discard(ctx context.Context) error {
	pending := r.snapshot.Ledger.Pending
	forget := func(l *secretstore.Ledger) { l.Pending = nil }
	if !r.Traits.Revocable {
		return r.saveLedger(ctx, "dropping the candidate", forget)
	}
	if pending.Stage != rotation.Discarded {
		above := r.entry.candidateFor(pending.Seq).highestMarker
		return r.saveLedger(ctx, "recording that the candidate is discarded", func(l *secretstore.Ledger) {
			l.Pending.Stage, l.LastSeq = rotation.Discarded, max(l.LastSeq, above)
		})
	}
	if err := r.callRetire(ctx, r.ref(pending.Version), pending.Material); err != nil {
		return fault.During(err, "retiring the discarded version %d", pending.Seq)
	}
	return r.saveLedger(ctx, "dropping the candidate", forget)
}

// renumber assigns the current version a number above the marker at the remote system. What is known of the version carries over.
func (r *run) renumber(ctx context.Context) error {
	mark := r.entry.marker
	seq := max(mark.Seq, r.snapshot.Ledger.LastSeq) + 1
	err := r.saveLedger(ctx, "renumbering the current version above the marker", func(l *secretstore.Ledger) {
		l.Current.Seq, l.LastSeq = seq, seq
	})
	if err == nil {
		r.entry.proof.Seq = seq
	}
	return err
}

// reassert makes the remote system accept the current version again, and proves that it does.
func (r *run) reassert(ctx context.Context) error {
	current := r.snapshot.Ledger.Current
	if _, err := r.ownMarkers(ctx); err != nil {
		return fmt.Errorf("restoring version %d at the remote system: %w", current.Seq, err)
	}
	if _, err := r.callStage(ctx, r.ref(current.Version), current.Material); err != nil {
		r.handleFencedCurrent(ctx, r.ref(current.Version), err)
		return fault.During(err, "restoring version %d at the remote system", current.Seq)
	}
	answer, err := r.callVerify(ctx, current)
	if answer == credential.Unknown {
		return fault.During(err, "proving version %d after it was restored", current.Seq)
	}
	mark := r.entry.marker
	r.entry.recordAnswer(current.Seq, answer, err, r.now())
	switch {
	case answer != credential.Rejected:
		return nil
	case fault.NeedsHelp(err):
		return fmt.Errorf("proving version %d after it was restored: %w", current.Seq, err)
	}
	r.entry.marker = mark
	if err == nil {
		err = errors.New("the remote system still rejects it")
	}
	return fault.Transient(fault.CredentialRejected, fmt.Errorf("proving version %d after it was restored: %w", current.Seq, err))
}
