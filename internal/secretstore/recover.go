// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// recover rebuilds a deleted ledger from a user's Secret that is ours. Numbers always continue from the one that the Secret
// shows.
func (s *Ledgered) recover(ctx context.Context) error {
	seq := revision(s.secret)
	s.content = Ledger{LastSeq: max(seq, s.content.LastSeq), TakeOver: s.content.TakeOver}
	candidate, ok := s.fromSecret(seq)
	if !ok || s.opts.Recover == nil {
		return nil
	}
	ledger, answer, err := s.opts.Recover(ctx, candidate, tokensOf(s.secret).Honored)
	switch answer {
	case credential.Accepted:
		if err != nil {
			return fmt.Errorf("completing the ledger of %s from Secret %s: %w", s.opts.Owner, s.opts.secretRef(), err)
		}
		ledger.LastSeq, ledger.TakeOver = max(s.content.LastSeq, ledger.LastSeq), s.content.TakeOver
		_, err = s.Save(ctx, ledger)
		return err
	case credential.Rejected:
		return nil
	case credential.Unknown:
	}
	if err == nil {
		err = fault.Transient(fault.ServerUnreachable, errors.New("the server did not answer"))
	}
	return fmt.Errorf("the ledger of %s is missing, and it is unknown whether the login in Secret %s still works, so nothing is recreated: %w",
		s.opts.Owner, s.opts.secretRef(), err)
}

// fromSecret returns a record of the version that the user's Secret shows, if that is derived from the spec.
func (s *Ledgered) fromSecret(seq int64) (Record, bool) {
	if s.opts.Candidate == nil || s.opts.conflict(s.secret) != "" {
		return Record{}, false
	}
	slot, material, ok := s.opts.Candidate(s.secret.Data)
	at := lastWritten(s.secret).UTC()
	return Record{
		Version: rotation.Version{
			Seq: max(seq, 1), Slot: slot, Stage: rotation.Current,
			ProposedAt: at, CommittedAt: at, PublishedAt: at,
		},
		Material: material,
	}, ok
}
