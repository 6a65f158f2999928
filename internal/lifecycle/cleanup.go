// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// Remains are what a deleted object leaves behind, as the errors that kept it: its logins, and its Secret and ledger.
type Remains struct {
	Remote, Kept error
	// Copied is true where the ledger is a copy, or may be one: the logins of these names may be those of another owner.
	Copied bool
}

// String is empty where nothing is left behind.
func (r Remains) String() string {
	if err := errors.Join(r.Remote, r.Kept); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

// withdraw ends the credential's life with the object's. What cannot be cleaned in bounded time is left behind, and said.
func (p *pass) withdraw(ctx context.Context) error {
	if p.memo.withdrawn {
		return p.release(ctx) // only the finalizer is left
	}
	left := Remains{Copied: p.Unowned != nil}
	if p.Delete && p.Traits.Remote {
		var err error
		if left.Remote, err = p.remove(ctx); err != nil {
			return err
		}
	}
	var err error
	if left.Kept, err = p.withdrawKept(ctx); err != nil {
		return err
	}
	p.memo.withdrawn, p.memo.left = true, left
	return p.release(ctx)
}

// withdrawKept ends Secret and ledger. left is why they stay, where that is not waited for any longer. They come after the
// logins, perhaps only when the time is over, and a single failure is not the reason to leave them.
func (p *pass) withdrawKept(ctx context.Context) (left, err error) {
	err = p.written(p.snapshot, p.Store.Withdraw(ctx))
	if err == nil {
		if p.Delete {
			// What is reported while the finalizer cannot be removed: nothing is published any more.
			p.snapshot = secretstore.Snapshot{Target: rotation.TargetMissing}
			p.out.Observation = p.observe()
		}
		return nil, nil
	}
	p.memo.stuck++
	if p.Delete {
		// One of them may be gone, and what is reported is what is left.
		if snapshot, failed := p.Store.Load(ctx); failed == nil {
			p.snapshot = snapshot
			p.out.Observation = p.observe()
		}
	}
	err = fmt.Errorf("withdrawing the Secret and the ledger: %w", err)
	switch {
	case p.takenAway(ctx, err):
		return nil, nil // both go with the namespace
	case p.overdue(err) && p.memo.stuck >= PatientReads:
		return err, nil
	}
	return nil, err
}

// release removes the finalizer. What is left behind is told first, once: the object is gone afterwards.
func (p *pass) release(ctx context.Context) error {
	p.out.LeftBehind = p.memo.left.String()
	if p.LeaveBehind != nil && p.out.LeftBehind != "" && !p.memo.told {
		if err := p.LeaveBehind(ctx, p.memo.left); err != nil {
			return err
		}
		p.memo.told = true
	}
	if p.Release != nil {
		if err := p.Release(ctx); err != nil {
			return err
		}
	}
	p.out.Withdrawn = true
	return nil
}

// remove drops what we made in every slot: the markers say what that is, also where the ledger is gone. left is why some of
// it stays, where that is not waited for any longer; one slot does not keep the other one.
func (p *pass) remove(ctx context.Context) (left, err error) {
	if p.Source == nil {
		err := fmt.Errorf("removing the logins: %w", p.noSource())
		if p.letGo(ctx, err) {
			return err, nil
		}
		return nil, err
	}
	remover, ok := p.Source.(credential.Remover)
	if !ok {
		return nil, nil
	}
	slots := p.Traits.Slots
	if len(slots) == 0 {
		slots = []string{""}
	}
	for _, slot := range slots {
		err := p.drop(ctx, remover, slot)
		switch {
		case err == nil:
		case !p.letGo(ctx, err):
			return nil, err
		default:
			left = errors.Join(left, err)
		}
	}
	return left, nil
}

func (p *pass) drop(ctx context.Context, remover credential.Remover, slot string) error {
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	ref := p.ref(rotation.Version{Seq: max(p.snapshot.Ledger.LastSeq, 1), Slot: slot})
	if err := remover.Remove(p.confirming(ctx), ref); err != nil {
		return fmt.Errorf("removing the login in slot %q: %w", slot, err)
	}
	return nil
}

// letGo reports whether a deleted object is released although err kept its logins: at once where what they would be removed
// from is gone, else when its time is over.
func (p *pass) letGo(ctx context.Context, err error) bool {
	if IsConflict(err) {
		return p.overdue(err)
	}
	if p.snapshot.Ledger.LastSeq == 0 && !p.disowned && !p.Served {
		// Nothing is known to have been made; there is nothing to wait for.
		return true
	}
	reason := fault.ReasonOf(err, "")
	if reason == fault.ServerNotFound || reason == fault.SecretNotFound {
		return true
	}
	return p.takenAway(ctx, err) || p.overdue(err)
}

// takenAway reports whether a right is missing because the namespace is being deleted, and its RoleBinding before the rest:
// nobody can put it back.
func (p *pass) takenAway(ctx context.Context, err error) bool {
	if p.NamespaceEnds == nil {
		return false
	}
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	return p.NamespaceEnds(ctx, err)
}

// overdue reports whether a deletion has waited long enough. Where another process wrote first, a second look nearly always
// helps, so that has as much time again.
func (p *pass) overdue(err error) bool {
	deadline := p.WithdrawDeadline
	if IsConflict(err) {
		deadline = deadline.Add(WithdrawPatience)
	}
	return p.over(deadline, p.memo.withdrawing)
}

// over reports whether the API server's clock has reached a deadline that counts from a time of the API server. Where our
// clock does not agree with that one, or nothing is known of it, this process must also have waited so long itself.
func (r *Driver) over(deadline, since time.Time) bool {
	now := r.Clock.Now()
	off, known := r.Skew()
	waited := !since.IsZero() && now.Sub(since) >= WithdrawPatience
	if rotation.ClocksAgree(off, known) {
		return !now.Add(off).Before(deadline)
	}
	if !known {
		off = 0
	}
	return waited && !now.Add(off).Before(deadline)
}

// unreadable reports that the store could not be read. Without the ledger nothing is known that could be removed: a
// deleted object is released where reading will not help later either, or when its time is over.
func (p *pass) unreadable(ctx context.Context, err error) {
	if p.Deleting && fault.ReasonOf(err, "") == fault.Fenced {
		p.disown(ctx)
		return
	}
	hopeless := fault.ReasonOf(err, "") == fault.LedgerInvalid
	late := p.overdue(err) && (IsConflict(err) || p.memo.attempts[StepObserve].count >= PatientReads)
	if p.Deleting && (hopeless || late || p.takenAway(ctx, err)) {
		p.abandon(ctx, err)
		return
	}
	if IsConflict(err) {
		p.fail(StepObserve, err)
		return
	}
	if p.waiting(StepObserve) {
		return
	}
	if fault.ReasonOf(err, "") != fault.Fenced {
		err = fmt.Errorf("reading what is written down: %w", err)
	}
	p.fail(StepObserve, err)
}

// abandon releases a deleted object whose ledger cannot be read, with what can be withdrawn without it.
func (p *pass) abandon(ctx context.Context, err error) {
	if p.waiting(rotation.StepWithdraw) {
		return
	}
	if !p.memo.withdrawn {
		err = fmt.Errorf("the ledger could not be read: %w", err)
		left := Remains{Kept: err}
		if p.Delete && p.Traits.Remote {
			left.Remote = err
		}
		kept, failed := p.withdrawKept(ctx)
		if failed != nil {
			p.fail(rotation.StepWithdraw, failed)
			return
		}
		if kept == nil {
			left.Kept = nil
		}
		p.memo.withdrawn, p.memo.left = true, left
	}
	if err := p.release(ctx); err != nil {
		p.fail(rotation.StepWithdraw, err)
	}
}

// disown releases a deleted object whose ledger is a copy of somebody else's, which stays. Ours is only what our mark says:
// that is removed as in any deletion, and nobody is told to drop the rest.
func (p *pass) disown(ctx context.Context) {
	if p.waiting(rotation.StepWithdraw) {
		return
	}
	p.disowned = true
	if p.Delete && p.Traits.Remote && !p.memo.withdrawn {
		remote, err := p.remove(ctx)
		if err != nil {
			p.fail(rotation.StepWithdraw, err)
			return
		}
		p.memo.left = Remains{Remote: remote, Copied: true}
	}
	p.memo.withdrawn = true
	if err := p.release(ctx); err != nil {
		p.fail(rotation.StepWithdraw, err)
	}
}

// stillDisowned asks whether the ledger is a copy still, before something is removed on that account.
func (p *pass) stillDisowned(ctx context.Context) error {
	_, err := p.Store.Load(ctx)
	switch {
	case fault.ReasonOf(err, "") == fault.Fenced:
		return nil
	case err != nil:
		return err
	}
	return Conflict(errors.New("the ledger is not a copy any more"))
}

// confirming has the source ask, at the last moment before it changes anything, whether the ledger that this pass goes by is
// still the one that is written down. Whoever was stopped in between, and overtaken, then changes nothing.
func (p *pass) confirming(ctx context.Context) context.Context {
	if p.disowned {
		return credential.Confirming(ctx, p.stillDisowned)
	}
	store, ok := p.Store.(interface {
		Confirm(ctx context.Context) error
	})
	if !ok {
		return ctx
	}
	return credential.Confirming(ctx, func(ctx context.Context) error {
		err := store.Confirm(ctx)
		if apierrors.IsConflict(err) {
			return Conflict(err)
		}
		return err
	})
}

// previousRefused reports whether this process has had the previous version refused, and could not write that down yet.
func (p *pass) previousRefused() bool {
	if previous := p.snapshot.Ledger.Previous; previous != nil && previous.Seq == p.memo.retired {
		return true
	}
	p.memo.retired = 0
	return false
}
