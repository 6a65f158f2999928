// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// handleFencedCandidate abandons a fenced candidate if the marker is ours and not older: the ledger was restored from an older state,
// or the candidate was already discarded. It can never be staged; a candidate with a number above the marker can.
func (r *run) handleFencedCandidate(ctx context.Context, ref credential.Ref, err error) {
	if fault.ReasonOf(err, "") != fault.Fenced {
		return
	}
	mark, err := r.observeMarker(ctx, ref)
	if err != nil || mark.State != rotation.MarkerOurs || mark.Seq < ref.Seq {
		return
	}
	about := r.entry.candidateFor(ref.Seq)
	about.answer, about.rejections, about.highestMarker = credential.Rejected, finalRejections, mark.Seq
}

// handleDeniedCandidate gives up a candidate whose request was denied permanently: sent again, it would be denied again. Another one is
// another request.
func (r *run) handleDeniedCandidate(ref credential.Ref, err error) {
	if r.Source == nil || !rotation.Disposable(r.Traits) || fault.Classify(err) != fault.ClassPermanent {
		return
	}
	about := r.entry.candidateFor(ref.Seq)
	about.answer, about.rejections = credential.Rejected, finalRejections
	r.noteRefusal(ref.Seq, err)
}

// handleFencedCurrent records the marker that fences the current version. It records our own marker with a number above that
// version's: if the ledger was restored from before the version's retirement, the marker is that of the retirement.
func (r *run) handleFencedCurrent(ctx context.Context, ref credential.Ref, err error) {
	if fault.ReasonOf(err, "") != fault.Fenced {
		return
	}
	mark, err := r.observeMarker(ctx, ref)
	if err != nil || mark.State == rotation.MarkerUnread {
		return
	}
	if mark.State == rotation.MarkerOurs {
		mark.Seq = max(mark.Seq, ref.Seq+1)
	}
	r.entry.marker = mark
}

// observeMarker reads which owner the slot has at the remote system. If that cannot hold a marker, it is as if the marker were
// missing: the ledger alone names the owner, and otherwise nothing would ever restore the login.
func (r *run) observeMarker(ctx context.Context, ref credential.Ref) (rotation.Marker, error) {
	marked, ok := credential.As[credential.MarkerReader](r.Source)
	if !ok {
		return rotation.Marker{State: rotation.MarkerMissing}, nil
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	m, err := marked.Marker(ctx, ref)
	switch {
	case err != nil:
		return rotation.Marker{}, fmt.Errorf("reading the marker of slot %q: %w", ref.Slot, err)
	case !m.Exists:
		return rotation.Marker{State: rotation.MarkerAbsent}, nil
	case m.Owner == "":
		return rotation.Marker{State: rotation.MarkerMissing}, nil
	case m.Owner != ref.Owner():
		return rotation.Marker{State: rotation.MarkerForeign, Seq: m.Seq, Owner: m.Owner}, nil
	}
	return rotation.Marker{State: rotation.MarkerOurs, Seq: m.Seq}, nil
}

// ReadMarker returns the marker of a slot, or an error after DefaultStepTimeout.
func ReadMarker(ctx context.Context, marked credential.MarkerReader, ref credential.Ref) (credential.Marker, error) {
	ctx, cancel := context.WithTimeout(ctx, DefaultStepTimeout)
	defer cancel()
	mark, err := marked.Marker(ctx, ref)
	if err != nil {
		return mark, fmt.Errorf("reading the marker of slot %q: %w", ref.Slot, err)
	}
	return mark, nil
}

// revokeOrphan handles a process that was paused between reading the ledger and calling the remote system while another process
// continued: if the ledger no longer knows the version, the login that was just opened for it is closed again. A newer version
// in the same slot has a newer marker and is not touched.
func (r *run) revokeOrphan(ctx context.Context, ref credential.Ref, material credential.Material) {
	now, err := r.Store.Load(ctx)
	if err != nil {
		logr.FromContextOrDiscard(ctx).Error(err, "It is unknown whether a login that was just opened is recorded; it stays open until its slot is used again", "slot", ref.Slot, "version", ref.Seq)
		return
	}
	for _, record := range []*secretstore.Record{now.Ledger.Pending, now.Ledger.Current, now.Ledger.Previous} {
		if record != nil && record.Seq == ref.Seq && record.Stage != rotation.Discarded {
			return
		}
	}
	if err := r.callRetire(ctx, ref, material); err != nil {
		logr.FromContextOrDiscard(ctx).Error(err, "A login that no ledger records stays open until its slot is used again", "slot", ref.Slot, "version", ref.Seq)
	}
}
