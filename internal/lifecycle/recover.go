// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// Recover rebuilds a lost ledger. It verifies the published version; the markers at the remote system show what the other
// slots hold. A login of this object that is still open there is the previous version. How much of its overlap has passed is
// unknown, so the whole overlap starts now. complete adds to the published material what only the ledger held.
func Recover(ctx context.Context, subject Credential, complete func(credential.Material) (credential.Material, error), candidate secretstore.Record, honored string, now time.Time) (secretstore.Ledger, credential.Answer, error) {
	if subject.Source == nil {
		return secretstore.Ledger{}, credential.Unknown, subject.SourceErr
	}
	material, err := complete(candidate.Material)
	if err != nil {
		return secretstore.Ledger{}, credential.Rejected, nil // rekey cannot have created this material
	}
	candidate.Material = material
	candidate.Fingerprint = subject.Fingerprint
	ref := subject.Ref
	ref.Seq, ref.Slot = candidate.Seq, candidate.Slot
	verify, cancel := context.WithTimeout(ctx, 2*DefaultStepTimeout)
	defer cancel()
	// No record shows whether a wrong password was ever refused here.
	answer, err := subject.Source.Verify(credential.First(verify), ref, candidate.Material)
	if answer == credential.Rejected && fault.NeedsHelp(err) {
		answer = credential.Unknown // another login would fail in the same way, and this one may be right
	}
	if answer != credential.Accepted || err != nil {
		return secretstore.Ledger{}, answer, err
	}
	ledger := secretstore.Ledger{
		Current: &candidate, LastSeq: candidate.Seq,
		Rotate: recoverRequest(subject.Rotate, honored), RetirePrevious: recoverRequest(subject.RetirePrevious, ""),
	}
	if err := recoverSlots(ctx, subject, &ledger, now); fault.ReasonOf(err, "") == fault.Fenced {
		return secretstore.Ledger{}, credential.Accepted, err // the login belongs to another owner: the Secret is a copy
	} else if err != nil {
		return secretstore.Ledger{}, credential.Unknown, err
	}
	return ledger, credential.Accepted, nil
}

// recoverRequest rebuilds the record of a request. If the Secret does not name the last request that was carried out, the
// present one counts as carried out: a lost ledger must not cause a rotation.
func recoverRequest(annotation, honored string) secretstore.Tokens {
	if honored == "" {
		honored = annotation
	}
	seen := annotation
	if seen == "" {
		seen = honored
	}
	return secretstore.Tokens{Seen: seen, Honored: honored}
}

// recoverSlots reads from the markers which numbers were assigned, and which other login is still open.
func recoverSlots(ctx context.Context, subject Credential, ledger *secretstore.Ledger, now time.Time) error {
	marked, ok := credential.As[credential.MarkerReader](subject.Source)
	if !ok {
		return nil
	}
	current := ledger.Current
	for _, slot := range subject.Traits.Slots {
		ref := subject.Ref
		ref.Seq, ref.Slot = current.Seq, slot
		mark, err := ReadMarker(ctx, marked, ref)
		if err != nil {
			return err
		}
		if mark.Owner != "" && mark.Owner != ref.Owner() && mark.Owner != subject.Former {
			return subject.Fenced(mark.Owner)
		}
		if mark.Owner != ref.Owner() {
			continue
		}
		ledger.LastSeq = max(ledger.LastSeq, mark.Seq)
		switch {
		case slot == current.Slot && mark.Open:
			// The server accepts the password in the Secret, so the marker has its number, even if the Secret names another.
			current.Seq = mark.Seq
		case slot != current.Slot && mark.Open:
			ledger.Previous = &secretstore.Record{Version: rotation.Version{Seq: mark.Seq, Slot: slot, Stage: rotation.Previous}}
			current.PublishedAt, current.Overlap = now, subject.Policy.Overlap
		}
	}
	return nil
}
