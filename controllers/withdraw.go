// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// withdraw ends the credential's life with the object's. What cannot be cleaned in bounded time is left behind, and said.
func (p *pass) withdraw(ctx context.Context) error {
	if p.Delete && p.Traits.Remote {
		if err := p.remove(ctx); err != nil {
			if !p.letGo(err) {
				return err
			}
			p.out.LeftBehind = err.Error()
		}
	}
	if err := p.written(p.snapshot, p.Store.Withdraw(ctx)); err != nil {
		return fmt.Errorf("withdrawing the Secret and the ledger: %w", err)
	}
	p.out.Withdrawn = true
	return nil
}

// remove drops what we made in every slot: the marks say what that is, also where the ledger is gone.
func (p *pass) remove(ctx context.Context) error {
	if p.Source == nil && p.snapshot.Ledger.LastSeq == 0 {
		return nil // nothing was begun, as far as anybody knows
	}
	if p.Source == nil {
		return fmt.Errorf("removing the logins: %w", p.noSource())
	}
	remover, ok := p.Source.(credential.Remover)
	if !ok {
		return nil
	}
	slots := p.Traits.Slots
	if len(slots) == 0 {
		slots = []string{""}
	}
	for _, slot := range slots {
		if err := p.drop(ctx, remover, slot); err != nil {
			return err
		}
	}
	return nil
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

// letGo tells whether a deleted object is let go although err: at once where what it would be removed from is gone, else
// when its time is over.
func (p *pass) letGo(err error) bool {
	if p.snapshot.Ledger.LastSeq == 0 {
		// Nothing is known to have been made; there is nothing to wait for.
		return true
	}
	reason := fault.ReasonOf(err, "")
	if reason == fault.ServerNotFound || reason == fault.SecretNotFound {
		return true
	}
	return !p.now().Before(p.WithdrawDeadline)
}

// unreadable reports that the store could not be read. Without the ledger nothing is known that could be removed: a
// deleted object is let go where reading will not help later either, or when its time is over.
func (p *pass) unreadable(ctx context.Context, err error) {
	if isConflict(err) {
		p.fail(stepObserve, err)
		return
	}
	hopeless := fault.Classify(err) == fault.ClassPermanent || fault.Classify(err) == fault.ClassBlocked
	if p.Deleting && (hopeless || !p.now().Before(p.WithdrawDeadline)) {
		p.out.LeftBehind = fmt.Sprintf("the ledger could not be read: %v", err)
		if err = p.written(p.snapshot, p.Store.Withdraw(ctx)); err == nil {
			p.out.Withdrawn = true
			return
		}
	}
	if p.waiting(stepObserve) {
		return
	}
	p.fail(stepObserve, fmt.Errorf("reading what is written down: %w", err))
}

// confirming has the source ask, at the last moment before it changes anything, whether the ledger that this pass goes by is
// still the one that is written down. Whoever was stopped in between, and overtaken, then changes nothing.
func (p *pass) confirming(ctx context.Context) context.Context {
	store, ok := p.Store.(interface {
		Confirm(ctx context.Context) error
	})
	if !ok {
		return ctx
	}
	return credential.Confirming(ctx, func(ctx context.Context) error {
		err := store.Confirm(ctx)
		if apierrors.IsConflict(err) {
			return &conflictError{err}
		}
		return err
	})
}
