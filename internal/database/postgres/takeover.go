// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// TakeOver implements credential.Heir: in the comments of both logins it replaces former by ref's owner.
func (s *session) TakeOver(ctx context.Context, change credential.Change, former string) error {
	ref := change.Ref
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := checkNames(s.target); err != nil {
		return err
	}
	doing := fmt.Sprintf("taking over the logins of %q", former)
	err := s.change(ctx, change, doing, func(ctx context.Context, tx pgx.Tx) error {
		if err := checkOwner(ctx, tx, s.target.Owner); err != nil {
			return err
		}
		for _, slot := range []string{slotA, slotB} {
			if err := takeOver(ctx, tx, ref, loginName(s.target, slot), former); err != nil {
				return err
			}
		}
		return nil
	})
	return s.namePrivilege(ctx, ref, err)
}

func takeOver(ctx context.Context, tx pgx.Tx, ref credential.Ref, login, former string) error {
	found, err := readRole(ctx, tx, login)
	if err != nil || !found.exists || found.owner == "" || found.owner == ref.Owner() {
		return err
	}
	if found.owner != former {
		return fault.Permanent(fault.Fenced, fmt.Errorf("checking login %q: its marker names %q, but the handover is from %q: name the owner of both logins", login, found.owner, former))
	}
	ref.Seq = max(found.seq, 1)
	mark := markerText(ref)
	if found.retired {
		mark = retiredMarkerText(ref)
	}
	return exec(ctx, tx, "COMMENT ON ROLE "+ident(login)+" IS "+literal(mark))
}

// checkSiblings refuses to change a login while the other login of the same username carries another owner's marker: the two
// are one credential.
func (s *session) checkSiblings(ctx context.Context, tx pgx.Tx, ref credential.Ref) error {
	for _, slot := range []string{slotA, slotB} {
		login := loginName(s.target, slot)
		found, err := readRole(ctx, tx, login)
		if err != nil {
			return err
		}
		if found.owner != "" {
			if err := checkMark(found, login, ref); err != nil {
				return err
			}
		}
	}
	return nil
}
