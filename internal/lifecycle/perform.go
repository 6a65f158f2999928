// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// perform does exactly one step. It decides nothing.
func (p *pass) perform(ctx context.Context, step rotation.Step) error {
	if p.Unowned != nil && step != rotation.StepProbe && step != rotation.StepWithdraw {
		return p.Unowned
	}
	if err := p.stillAsked(ctx, step); err != nil {
		return err
	}
	switch step {
	case rotation.StepRecord:
		return p.save(ctx, "recording a request", func(l *secretstore.Ledger) {
			p.noteRequests(l)
			if p.Former == "" {
				l.TakeOver = secretstore.Handover{}
			}
		})
	case rotation.StepTakeOver:
		return p.takeOver(ctx)
	case rotation.StepPropose:
		return p.propose(ctx)
	case rotation.StepStage:
		return p.stage(ctx)
	case rotation.StepVerify:
		return p.verify(ctx)
	case rotation.StepCommit:
		return p.commit(ctx)
	case rotation.StepPublish:
		return p.publish(ctx)
	case rotation.StepProbe:
		return p.probe(ctx)
	case rotation.StepRetire:
		return p.retire(ctx)
	case rotation.StepDiscard:
		return p.discard(ctx)
	case rotation.StepRenumber:
		return p.renumber(ctx)
	case rotation.StepReassert:
		return p.reassert(ctx)
	case rotation.StepWithdraw:
		return p.withdraw(ctx)
	case rotation.StepNone:
	}
	return fmt.Errorf("performing %q: no such step", step)
}

// stillAsked asks whether the object still says what the step obeys. Two processes of which one has an old cache would
// otherwise make versions in turn, and an old one would honour a request again that was honoured long ago.
func (p *pass) stillAsked(ctx context.Context, step rotation.Step) error {
	obeys := step == rotation.StepRecord || step == rotation.StepDiscard || step == rotation.StepPropose
	asked := obeys && p.snapshot.Overtaken && p.out.Decision.Reason != rotation.ReasonDue
	handover := step == rotation.StepTakeOver || step == rotation.StepRecord && p.out.Observation.TakeOver.Lapsed
	if p.Unchanged == nil || !asked && !handover {
		return nil
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	return p.Unchanged(ctx)
}

// save writes a changed copy of the ledger, by compare-and-swap on what this pass read or wrote last.
func (p *pass) save(ctx context.Context, doing string, change func(*secretstore.Ledger)) error {
	ledger := p.snapshot.Ledger.Clone()
	change(&ledger)
	snapshot, err := p.Store.Save(ctx, ledger)
	if err := p.written(snapshot, err); err != nil {
		return fault.During(err, "%s", doing)
	}
	return nil
}

func (p *pass) propose(ctx context.Context) error {
	o := p.out.Observation
	v := rotation.Version{
		Seq: rotation.NextSeq(o), Slot: rotation.NextSlot(o), Stage: rotation.Proposed, Fingerprint: p.Fingerprint, ProposedAt: o.Now,
	}
	if wait := p.untilIssue(o.Now); wait > 0 {
		if err := p.fight(); err != nil {
			return err
		}
		return fault.Pending(wait, fmt.Errorf("the last certificate was issued at %s; the next one is issued no sooner than %s later",
			fault.FormatTime(p.memo.issued), p.issueFloor(o.Now)))
	}
	marks, err := p.owned(ctx)
	if err != nil {
		return fault.During(err, "making version %d", v.Seq)
	}
	var survivor secretstore.Survivor
	if o.Current == nil {
		v, survivor = beginAmong(v, p.Traits, marks)
	}
	ref := p.ref(v)
	if p.Preflight != nil && o.Current == nil {
		step, cancel := p.deadline(ctx)
		defer cancel()
		if err := p.Preflight(step, ref); err != nil {
			return fault.During(err, "checking the remote end before anything is made")
		}
	}
	material, err := p.Propose(ref)
	if err != nil {
		return fault.During(err, "making version %d", v.Seq)
	}
	return p.save(ctx, "writing down the new version", func(l *secretstore.Ledger) {
		l.Pending, l.LastSeq, l.Survivor = &secretstore.Record{Version: v, Material: material}, v.Seq, survivor
		if p.Traits.Remote {
			p.noteRequests(l)
		}
	})
}

// stage tells the remote end, which is allowed because the version is written down: it was read from the ledger.
func (p *pass) stage(ctx context.Context) error {
	pending := p.snapshot.Ledger.Pending
	ref := p.ref(pending.Version)
	material, err := p.tell(ctx, ref, pending.Material)
	if err != nil {
		p.meetNewerMark(ctx, ref, err)
		return fault.During(err, "staging version %d", ref.Seq)
	}
	version := pending.Version
	version.Stage = rotation.Staged
	if p.NotAfter != nil {
		if version.NotAfter, err = p.NotAfter(material); err != nil {
			return fault.During(err, "reading the expiry of version %d", ref.Seq)
		}
	}
	err = p.save(ctx, "writing down that the version is staged", func(l *secretstore.Ledger) {
		l.Pending = &secretstore.Record{Version: version, Material: material}
	})
	if IsConflict(err) || apierrors.IsNotFound(err) {
		p.takeBack(ctx, ref)
	}
	return err
}

// takeBack is for a process that was stopped between reading the ledger and speaking to the remote end, while another one
// went on: if the ledger does not know the version any more, what was just opened for it is closed again. What went on
// in the same slot since then has a newer mark, and is left alone.
func (p *pass) takeBack(ctx context.Context, ref credential.Ref) {
	now, err := p.Store.Load(ctx)
	if err != nil {
		logr.FromContextOrDiscard(ctx).Error(err, "Whether a login that was just opened is recorded is not known; it stays open until its slot is used again", "slot", ref.Slot, "version", ref.Seq)
		return
	}
	for _, r := range []*secretstore.Record{now.Ledger.Pending, now.Ledger.Current, now.Ledger.Previous} {
		if r != nil && r.Seq == ref.Seq && r.Stage != rotation.Discarded {
			return
		}
	}
	if err := p.refuse(ctx, ref); err != nil {
		logr.FromContextOrDiscard(ctx).Error(err, "A login that no ledger records stays open until its slot is used again", "slot", ref.Slot, "version", ref.Seq)
	}
}

func (p *pass) tell(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Material, error) {
	if p.Source == nil {
		return nil, p.noSource()
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	return p.Source.Stage(p.confirming(ctx), ref, material)
}

func (s Credential) noSource() error {
	if s.SourceErr != nil {
		return s.SourceErr
	}
	return errors.New("the source of the credential could not be opened")
}

// ask uses a version as a client would. It may take two calls' time: a remote end may delay a refusal on purpose, and a
// refusal is confirmed before it counts.
func (p *pass) ask(ctx context.Context, record *secretstore.Record) (credential.Answer, error) {
	if p.Source == nil {
		return credential.Unknown, p.noSource()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*p.stepTimeout())
	defer cancel()
	if p.snapshot.Ledger.Current == nil {
		ctx = credential.First(ctx)
	}
	answer, err := p.Source.Verify(ctx, p.ref(record.Version), record.Material)
	if answer == credential.Unknown && err == nil {
		err = errors.New("the remote end gave no clear answer")
	}
	return answer, err
}

func (p *pass) verify(ctx context.Context) error {
	pending := p.snapshot.Ledger.Pending
	answer, err := p.ask(ctx, pending)
	about := p.memo.about(pending.Seq)
	switch answer {
	case credential.Unknown:
		return fault.During(err, "verifying version %d", pending.Seq)
	case credential.Rejected:
		if fault.NeedsHelp(err) {
			// Another candidate would fare no better.
			return fmt.Errorf("verifying version %d: %w", pending.Seq, err)
		}
		about.answer = answer
		about.rejections++
		if err == nil {
			err = errors.New("the remote end refused it")
		}
		if fault.Classify(err) == fault.ClassTransient {
			err = fault.Transient(fault.ReasonOf(err, fault.CandidateRejected), err)
		}
		return fault.During(err, "verifying version %d", pending.Seq)
	case credential.Accepted:
	}
	*about = candidate{seq: pending.Seq, answer: answer}
	return p.save(ctx, "writing down that the version is verified", func(l *secretstore.Ledger) { l.Pending.Stage = rotation.Verified })
}

// commit makes the pending version the current one. All of it is one write.
func (p *pass) commit(ctx context.Context) error {
	now, seq := p.out.Observation.Now, p.snapshot.Ledger.Pending.Seq
	err := p.save(ctx, "committing the new version", func(l *secretstore.Ledger) {
		switch {
		case !p.Traits.Remote || !p.Traits.Overlap:
		case l.Current != nil:
			l.Previous = l.Current
			l.Previous.Stage = rotation.Previous
		default:
			l.Previous = l.Survivor.Version()
		}
		l.Current, l.Pending = l.Pending, nil
		l.Current.Stage, l.Current.CommittedAt = rotation.Current, now
		if p.Traits.Remote {
			l.Current.Overlap = p.Policy.Overlap
		} else {
			// The commit is the write of the user's Secret.
			l.Current.PublishedAt = now
			p.noteRequests(l)
		}
		l.Rotate.Honoured = l.Rotate.Seen
		if l.Previous == nil {
			retireHonoured(l)
		}
	})
	if !p.Traits.Remote && (err == nil || IsConflict(err)) {
		p.issuedAgain(now)
	}
	if err == nil && p.memo.about(seq).answer == credential.Accepted {
		p.memo.prove(seq, credential.Accepted, nil, now)
	}
	return err
}

// publish writes the user's Secret, then when that was. Interrupted in between, it is entered again and does the second.
func (p *pass) publish(ctx context.Context) error {
	if p.snapshot.Target != rotation.TargetShowsCurrent {
		if err := p.again(); err != nil {
			return err
		}
		if err := p.written(p.Store.Publish(ctx)); err != nil {
			return fault.During(err, "writing the Secret")
		}
	}
	if p.snapshot.Target != rotation.TargetShowsCurrent || !p.snapshot.Ledger.Current.PublishedAt.IsZero() {
		return nil
	}
	return p.save(ctx, "writing down when the Secret was written", func(l *secretstore.Ledger) { l.Current.PublishedAt = p.now() })
}

// probe uses the current version. A second rejection in a row asks whose the login is; it counts only where that is answered,
// since what is known to be refused is left alone for minutes.
func (p *pass) probe(ctx context.Context) error {
	current := p.snapshot.Ledger.Current
	answer, err := p.ask(ctx, current)
	if answer == credential.Unknown {
		return fault.During(err, "proving version %d", current.Seq)
	}
	proof, mark := p.memo.proof, p.memo.mark
	p.memo.prove(current.Seq, answer, err, p.now())
	if answer == credential.Rejected && fault.NeedsHelp(err) {
		return fmt.Errorf("proving version %d: %w", current.Seq, err)
	}
	if p.memo.proof.Rejections < finalRejections {
		return nil
	}
	if p.memo.mark, err = p.mark(ctx, p.ref(current.Version)); err != nil {
		p.memo.proof, p.memo.mark = proof, mark
		return fmt.Errorf("version %d was refused again: %w", current.Seq, err)
	}
	return nil
}

// retire has the previous version refused, then forgets it.
func (p *pass) retire(ctx context.Context) error {
	previous := p.snapshot.Ledger.Previous
	if err := p.refuse(ctx, p.ref(previous.Version)); err != nil {
		return fault.During(err, "retiring version %d", previous.Seq)
	}
	p.memo.retired = previous.Seq
	return p.save(ctx, "writing down that the previous version is retired", func(l *secretstore.Ledger) {
		l.Previous = nil
		if previous.Seq >= l.RetireThrough {
			retireHonoured(l)
		}
	})
}

func (p *pass) refuse(ctx context.Context, ref credential.Ref) error {
	if p.Source == nil {
		return p.noSource()
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	return p.Source.Retire(p.confirming(ctx), ref)
}

// discard first writes down that the pending version will never be published: whoever still means to commit it fails at
// the ledger. Only then the remote end is told.
func (p *pass) discard(ctx context.Context) error {
	pending := p.snapshot.Ledger.Pending
	forget := func(l *secretstore.Ledger) { l.Pending = nil }
	if !p.Traits.Remote {
		return p.save(ctx, "dropping the candidate", forget)
	}
	if pending.Stage != rotation.Discarded {
		above := p.memo.about(pending.Seq).above
		return p.save(ctx, "writing down that the candidate is discarded", func(l *secretstore.Ledger) {
			l.Pending.Stage, l.LastSeq = rotation.Discarded, max(l.LastSeq, above)
		})
	}
	if err := p.refuse(ctx, p.ref(pending.Version)); err != nil {
		return fault.During(err, "retiring the discarded version %d", pending.Seq)
	}
	return p.save(ctx, "dropping the candidate", forget)
}

// renumber gives the current version a number above the mark at the remote end. What was heard of it goes with it.
func (p *pass) renumber(ctx context.Context) error {
	mark := p.memo.mark
	seq := max(mark.Seq, p.snapshot.Ledger.LastSeq) + 1
	err := p.save(ctx, "giving the current version a number above the mark", func(l *secretstore.Ledger) {
		l.Current.Seq, l.LastSeq = seq, seq
	})
	if err == nil {
		p.memo.proof.Seq = seq
	}
	return err
}

// reassert makes the remote end accept the current version again, and sees that it does.
func (p *pass) reassert(ctx context.Context) error {
	current := p.snapshot.Ledger.Current
	if _, err := p.owned(ctx); err != nil {
		return fmt.Errorf("restoring version %d at the remote end: %w", current.Seq, err)
	}
	if _, err := p.tell(ctx, p.ref(current.Version), current.Material); err != nil {
		p.meetOwnMark(ctx, p.ref(current.Version), err)
		return fault.During(err, "restoring version %d at the remote end", current.Seq)
	}
	answer, err := p.ask(ctx, current)
	if answer == credential.Unknown {
		return fault.During(err, "proving version %d after it was restored", current.Seq)
	}
	mark := p.memo.mark
	p.memo.prove(current.Seq, answer, err, p.now())
	switch {
	case answer != credential.Rejected:
		return nil
	case fault.NeedsHelp(err):
		return fmt.Errorf("proving version %d after it was restored: %w", current.Seq, err)
	}
	p.memo.mark = mark
	if err == nil {
		err = errors.New("the remote end still refuses it")
	}
	return fault.Transient(fault.CredentialRejected, fmt.Errorf("proving version %d after it was restored: %w", current.Seq, err))
}
