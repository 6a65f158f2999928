// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// ownMarkers returns our markers by slot, or an error if the credential is not ours as a whole, before anything of it is created or
// changed: no slot may carry the marker of another owner, not even one that this step does not touch.
func (r *run) ownMarkers(ctx context.Context) (map[string]credential.Marker, error) {
	marks := map[string]credential.Marker{}
	found, err := r.readMarkers(ctx)
	if err != nil {
		return nil, err
	}
	for i, mark := range found {
		if mark.Owner != "" && mark.Owner != r.Ref.Owner() {
			return nil, r.fenced(mark.Owner)
		}
		slot := ""
		if len(r.Traits.Slots) > 0 {
			slot = r.Traits.Slots[i]
		}
		if mark.Owner != "" {
			marks[slot] = mark
		}
	}
	return marks, nil
}

// readMarkers returns the markers of all slots; none if the remote system cannot hold a marker.
func (r *run) readMarkers(ctx context.Context) ([]credential.Marker, error) {
	marked, ok := credential.As[credential.MarkerReader](r.Source)
	if !ok {
		return nil, nil
	}
	slots := r.Traits.Slots
	if len(slots) == 0 {
		slots = []string{""}
	}
	var out []credential.Marker
	for _, slot := range slots {
		ref := r.Ref
		ref.Seq, ref.Slot = max(r.snapshot.Ledger.LastSeq, 1), slot
		mark, err := r.readMarker(ctx, marked, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, mark)
	}
	return out, nil
}

func (r *run) readMarker(ctx context.Context, marked credential.MarkerReader, ref credential.Ref) (credential.Marker, error) {
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	return ReadMarker(ctx, marked, ref)
}

// fenced returns an error that names the owner of the logins and the next step.
func (r *run) fenced(owner string) error {
	if done := r.snapshot.Ledger.TakeOver; r.Former == owner && done.Honored == owner {
		return fault.Permanent(fault.Fenced, fmt.Errorf(
			"the logins at the server belong to %s, so nothing is created or changed: the annotation %s was honored at %s, but they have since gone back to that owner. To hand them over again, remove the annotation, and once this message no longer mentions it, run: %s",
			secretstore.Elsewhere(r.Kind, owner), secretstore.TakeOverAnnotation, fault.FormatTime(done.At),
			secretstore.TakeOverCommand(r.Kind, r.Ref.Namespace, r.Ref.Name, owner)))
	}
	return r.Fenced(owner)
}

// Fenced returns an error that names the owner of the logins and how to take them over.
func (s Credential) Fenced(owner string) error {
	return fault.Permanent(fault.Fenced, fmt.Errorf(
		"the logins at the server belong to %s, so nothing is created or changed: choose another username in a new object. If that one no longer exists and this one replaces it, hand the logins over with: %s",
		secretstore.Elsewhere(s.Kind, owner), secretstore.TakeOverCommand(s.Kind, s.Ref.Namespace, s.Ref.Name, owner)))
}

// takeOver takes over what the former owner has. It first records its intention: a process with an older ledger changes no
// marker after that. It then changes the markers, and records that it did; from then on the annotation has no further effect.
// If it is interrupted anywhere, it starts over.
func (r *run) takeOver(ctx context.Context) error {
	former, doing := r.Former, "taking over from "+secretstore.Elsewhere(r.Kind, r.Former)
	if r.Source == nil {
		return fault.During(r.noSource(), "%s", doing)
	}
	marks, err := r.readMarkers(ctx)
	if err != nil {
		return fault.During(err, "%s", doing)
	}
	theirs, last, err := r.formerHolds(marks)
	if err != nil {
		return err
	}
	ref := r.Ref
	ref.Seq = max(r.snapshot.Ledger.LastSeq, 1)
	if len(r.Traits.Slots) > 0 {
		ref.Slot = r.Traits.Slots[0]
	}
	if theirs {
		if err := r.checkInheritable(ctx, ref, former); err != nil {
			return fault.During(err, "%s", doing)
		}
	}
	if !r.out.Observation.TakeOver.Recorded {
		return r.saveLedger(ctx, "recording whose logins are taken over", func(l *secretstore.Ledger) {
			l.TakeOver, l.LastSeq = secretstore.Handover{Seen: former}, max(l.LastSeq, last)
		})
	}
	if heir, ok := credential.As[credential.Heir](r.Source); ok && theirs {
		ctx, cancel := r.deadline(ctx)
		defer cancel()
		if err := heir.TakeOver(ctx, credential.Change{Ref: ref, StillWanted: r.stillWanted()}, former); err != nil {
			return fault.During(err, "%s", doing)
		}
	}
	if err := r.saveLedger(ctx, "recording the takeover", func(l *secretstore.Ledger) {
		l.TakeOver.Honored, l.TakeOver.At = former, r.now()
	}); err != nil {
		return err
	}
	// What was learned about the published version before no longer holds.
	r.entry.proof, r.entry.marker, r.entry.refusal = rotation.Proof{}, rotation.Marker{}, nil
	return r.reloadInherited(ctx)
}

// formerHolds reports whether anything still belongs to the former owner: a marker or, if no marker is ours yet, what is recorded. The
// marker of a third owner is an error. last is the highest number of a marker.
func (r *run) formerHolds(marks []credential.Marker) (theirs bool, last int64, err error) {
	ours := false
	for _, mark := range marks {
		switch mark.Owner {
		case "":
			continue
		case r.Ref.Owner():
			ours = true
		case r.Former:
			theirs = true
		default:
			return false, 0, r.fenced(mark.Owner)
		}
		last = max(last, mark.Seq)
	}
	return theirs || r.snapshot.Inherited && !ours, last, nil
}

// reloadInherited reads the store again if only the former owner's Secret shows the published login: now that the markers are ours,
// the ledger is rebuilt from it.
func (r *run) reloadInherited(ctx context.Context) error {
	if l := r.snapshot.Ledger; l.Pending != nil || l.Current != nil || l.Previous != nil {
		return nil
	}
	if err := r.applyWrite(r.Store.Load(ctx)); err != nil {
		return fault.During(err, "reading what was taken over")
	}
	return nil
}

// checkInheritable makes the checks of a new credential, and last checks that the former owner is gone: otherwise a user who may
// create an object in one namespace could take the logins of another namespace.
func (s Credential) checkInheritable(ctx context.Context, ref credential.Ref, former string) error {
	ctx, cancel := context.WithTimeout(ctx, DefaultStepTimeout)
	defer cancel()
	if err := s.preflight(credential.WithFormer(ctx, former), ref, DefaultStepTimeout); err != nil {
		return err
	}
	if s.FormerGone == nil {
		return nil
	}
	return s.FormerGone(ctx, former)
}

// placeAmongMarkers places a version without a recorded predecessor among our markers, by slot: above all their numbers, and in a slot
// whose login is closed or, if none is, in the one with the lowest number. A login that is open in another slot may be in use: it
// survives and becomes the previous version.
func placeAmongMarkers(v rotation.Version, traits credential.Traits, marks map[string]credential.Marker) (rotation.Version, secretstore.Survivor) {
	for _, mark := range marks {
		v.Seq = max(v.Seq, mark.Seq+1)
	}
	var survivor secretstore.Survivor
	if !traits.Revocable || len(traits.Slots) == 0 {
		return v, survivor
	}
	v.Slot = slices.MinFunc(traits.Slots, func(a, b string) int {
		return cmp.Compare(openSeq(marks[a]), openSeq(marks[b]))
	})
	for _, slot := range traits.Slots {
		if mark := marks[slot]; slot != v.Slot && mark.Open && mark.Seq > survivor.Seq {
			survivor = secretstore.Survivor{Seq: mark.Seq, Slot: slot, Crowded: marks[v.Slot].Open}
		}
	}
	return v, survivor
}

// openSeq returns the number of an open login, and -1 for a closed one.
func openSeq(mark credential.Marker) int64 {
	if !mark.Open {
		return -1
	}
	return mark.Seq
}

// handoverState merges the annotation with what is recorded. A removed annotation is not a request, regardless of what is recorded.
func handoverState(former string, snapshot secretstore.Snapshot) rotation.Handover {
	done := snapshot.Ledger.TakeOver
	out := rotation.Handover{From: former, Recorded: former != "" && former == done.Seen, Lapsed: former == "" && done != secretstore.Handover{},
		Inherited: snapshot.Inherited}
	if former != "" && former == done.Honored {
		out.HonoredAt = done.At
	}
	return out
}
