// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/secretstore"
)

// owned looks whether the credential is ours as a whole, before anything of it is made or changed: no slot may carry the
// mark of another owner, also not one that this step does not touch. What a person handed over is taken over first.
func (p *pass) owned(ctx context.Context) error {
	marked, ok := p.Source.(credential.Marked)
	if !ok || !p.Traits.Remote {
		return nil
	}
	slots := p.Traits.Slots
	if len(slots) == 0 {
		slots = []string{""}
	}
	for _, slot := range slots {
		ref := p.Ref
		ref.Seq, ref.Slot = max(p.snapshot.Ledger.LastSeq, 1), slot
		mark, err := p.readMark(ctx, marked, ref)
		if err != nil {
			return err
		}
		if mark.Owner == "" || mark.Owner == ref.Owner() {
			continue
		}
		if mark.Owner != p.Former {
			return fenced(p.Subject, mark.Owner)
		}
		if err := p.inherit(ctx, p.Former); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) readMark(ctx context.Context, marked credential.Marked, ref credential.Ref) (credential.Marker, error) {
	ctx, cancel := p.deadline(ctx)
	defer cancel()
	return markOf(ctx, marked, ref)
}

// fenced says whose the logins are, and what to do.
func fenced(s Subject, owner string) error {
	return fault.Permanent(fault.Fenced, fmt.Errorf(
		"the logins at the server are those of %s, so nothing is made or changed: choose another username in a new object. If that one is gone and this one takes its place, hand them over with: %s",
		secretstore.Elsewhere(s.Kind, owner), secretstore.TakeOverCommand(s.Kind, s.Ref.Namespace, s.Ref.Name, owner)))
}

// inherit makes the former owner's marks ours. The remote end compares them once more, in the same transaction.
func (s Subject) inherit(ctx context.Context, former string) error {
	if s.Source == nil {
		return s.noSource()
	}
	heir, ok := s.Source.(credential.Heir)
	if !ok {
		return nil
	}
	ref := s.Ref
	ref.Seq = 1
	if len(s.Traits.Slots) > 0 {
		ref.Slot = s.Traits.Slots[0]
	}
	ctx, cancel := context.WithTimeout(ctx, defaultStepTimeout)
	defer cancel()
	doing := "taking over from " + secretstore.Elsewhere(s.Kind, former)
	if err := s.mayInherit(ctx, ref, former); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := heir.TakeOver(ctx, ref, former); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// mayInherit checks what a new credential has to pass, and last that the former owner is gone: whoever may create an object
// in one namespace may otherwise take the logins of another.
func (s Subject) mayInherit(ctx context.Context, ref credential.Ref, former string) error {
	if s.Preflight != nil {
		if err := s.Preflight(credential.WithFormer(ctx, former), ref); err != nil {
			return err
		}
	}
	if s.FormerGone == nil {
		return nil
	}
	return s.FormerGone(ctx, former)
}
