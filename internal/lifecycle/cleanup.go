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

// Remains holds the errors that kept a deleted object's logins, and its Secret and ledger, from being removed.
type Remains struct {
	Remote, Kept error
	// Copied is true if the ledger is a copy, or may be one: logins with these names may belong to another owner.
	Copied bool
}

// String returns the errors in one line; empty if nothing is left behind.
func (r Remains) String() string {
	if err := errors.Join(r.Remote, r.Kept); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

// withdraw removes the credential of a deleted object. What cannot be cleaned up in bounded time is left behind and reported.
func (r *run) withdraw(ctx context.Context) error {
	if r.entry.withdrawn {
		return r.release(ctx) // only the finalizer remains
	}
	left := Remains{Copied: r.Unowned != nil}
	if r.Delete {
		var err error
		if left.Remote, err = r.removeLogins(ctx); err != nil {
			return err
		}
	}
	var err error
	if left.Kept, err = r.withdrawSecrets(ctx); err != nil {
		return err
	}
	r.entry.withdrawn, r.entry.remains = true, left
	return r.release(ctx)
}

// withdrawSecrets withdraws the Secret and the ledger. left is why they stay, if the deletion no longer waits for them. They
// come after the logins, perhaps only after the deadline, so a single failure does not mean that they are left behind.
func (r *run) withdrawSecrets(ctx context.Context) (left, err error) {
	err = r.applyWrite(r.snapshot, r.Store.Withdraw(ctx))
	if err == nil {
		if r.Delete {
			// What is reported while the finalizer cannot be removed: nothing is published anymore.
			r.snapshot = secretstore.Snapshot{Target: rotation.TargetMissing}
			r.out.Observation = r.observe()
		}
		return nil, nil
	}
	r.entry.withdrawFailures++
	if r.Delete {
		// One of them may be gone already; only what is left is reported.
		if snapshot, failed := r.Store.Load(ctx); failed == nil {
			r.snapshot = snapshot
			r.out.Observation = r.observe()
		}
	}
	err = fmt.Errorf("withdrawing the Secret and the ledger: %w", err)
	switch {
	case r.endsWithNamespace(ctx, err):
		return nil, nil // both are deleted with the namespace
	case r.pastDeadline(err) && r.entry.withdrawFailures >= PatientReads:
		return err, nil
	}
	return nil, err
}

// release removes the finalizer. It first reports what is left behind, once: the object is gone afterwards.
func (r *run) release(ctx context.Context) error {
	r.out.Remains = r.entry.remains.String()
	if r.ReportRemains != nil && r.out.Remains != "" && !r.entry.reported {
		if err := r.ReportRemains(ctx, r.entry.remains); err != nil {
			return err
		}
		r.entry.reported = true
	}
	if r.Release != nil {
		if err := r.Release(ctx); err != nil {
			return err
		}
	}
	r.out.Withdrawn = true
	return nil
}

// removeLogins drops what we created in every slot: the markers identify that, even if the ledger is gone. left is why some of
// it stays, if the deletion no longer waits for it. One slot does not delay the other.
func (r *run) removeLogins(ctx context.Context) (left, err error) {
	if r.Source == nil && !r.mayHaveLogins() {
		return nil, nil
	}
	if r.Source == nil {
		err := fmt.Errorf("removing the logins: %w", r.noSource())
		if r.giveUpCleanup(ctx, err) {
			return err, nil
		}
		return nil, err
	}
	for _, remove := range r.removals() {
		err := remove(ctx)
		switch {
		case err == nil:
		case !r.giveUpCleanup(ctx, err):
			return nil, err
		default:
			left = errors.Join(left, err)
		}
	}
	return left, nil
}

// removals returns what removes the logins: one call for each slot. For a source without a Remover,
// each recorded version is retired.
func (r *run) removals() (out []func(context.Context) error) {
	if remover, ok := credential.As[credential.Remover](r.Source); ok {
		slots := r.Traits.Slots
		if len(slots) == 0 {
			slots = []string{""}
		}
		for _, slot := range slots {
			out = append(out, func(ctx context.Context) error { return r.removeLogin(ctx, remover, slot) })
		}
		return out
	}
	if !r.mayHaveLogins() {
		return nil
	}
	l := r.snapshot.Ledger
	for _, record := range []*secretstore.Record{l.Pending, l.Previous, l.Current} {
		if record != nil {
			out = append(out, func(ctx context.Context) error { return r.retireRemoved(ctx, record) })
		}
	}
	if len(out) == 0 && r.Served && !r.disowned {
		out = append(out, func(context.Context) error {
			return fault.Permanent(fault.LedgerInvalid, errors.New("the ledger is lost, and the remote system cannot name the versions that it accepts"))
		})
	}
	return out
}

// mayHaveLogins reports whether the remote system may hold versions of the credential.
func (r *run) mayHaveLogins() bool { return r.Traits.Revocable || r.TraitsUnknown }

func (r *run) retireRemoved(ctx context.Context, record *secretstore.Record) error {
	if err := r.callRetire(ctx, r.ref(record.Version), record.Material); err != nil {
		return fmt.Errorf("retiring version %d: %w", record.Seq, err)
	}
	return nil
}

func (r *run) removeLogin(ctx context.Context, remover credential.Remover, slot string) error {
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	ref := r.ref(rotation.Version{Seq: max(r.snapshot.Ledger.LastSeq, 1), Slot: slot})
	if err := remover.Remove(ctx, credential.Change{Ref: ref, Material: r.materialIn(slot), StillWanted: r.stillWanted()}); err != nil {
		return fmt.Errorf("removing the login in slot %q: %w", slot, err)
	}
	return nil
}

// materialIn returns what is recorded of the version in a slot, the published one first; nil if nothing is.
func (r *run) materialIn(slot string) credential.Material {
	l := r.snapshot.Ledger
	for _, record := range []*secretstore.Record{l.Current, l.Previous, l.Pending} {
		if record != nil && record.Slot == slot && len(record.Material) > 0 {
			return record.Material
		}
	}
	return nil
}

// giveUpCleanup reports whether a deleted object is released although err kept its logins: at once if the system that holds them is
// gone, otherwise after the deadline.
func (r *run) giveUpCleanup(ctx context.Context, err error) bool {
	if IsConflict(err) {
		return r.pastDeadline(err)
	}
	if r.snapshot.Ledger.LastSeq == 0 && !r.disowned && !r.Served {
		// As far as is known, nothing was created: there is nothing to wait for.
		return true
	}
	reason := fault.ReasonOf(err, "")
	if reason == fault.ServerNotFound || reason == fault.SecretNotFound {
		return true
	}
	return r.endsWithNamespace(ctx, err) || r.pastDeadline(err)
}

// endsWithNamespace reports whether a right is missing because the namespace is being deleted and its RoleBinding went first:
// it cannot be granted again.
func (r *run) endsWithNamespace(ctx context.Context, err error) bool {
	if r.NamespaceEnds == nil {
		return false
	}
	ctx, cancel := r.deadline(ctx)
	defer cancel()
	return r.NamespaceEnds(ctx, err)
}

// pastDeadline reports whether a deletion has waited long enough. A conflict extends the deadline by WithdrawPatience: the next
// attempt nearly always succeeds.
func (r *run) pastDeadline(err error) bool {
	deadline := r.WithdrawDeadline
	if IsConflict(err) {
		deadline = deadline.Add(WithdrawPatience)
	}
	return r.deadlinePassed(deadline, r.entry.deletingSince)
}

// deadlinePassed reports whether the API server's clock has passed a deadline that counts from a time of the API server. If our clock
// does not agree with it, or its time is unknown, this process must also have waited that long itself.
func (d *Driver) deadlinePassed(deadline, since time.Time) bool {
	now := d.Clock.Now()
	off, known := d.Skew()
	waited := !since.IsZero() && now.Sub(since) >= WithdrawPatience
	if rotation.ClocksAgree(off, known) {
		return !now.Add(off).Before(deadline)
	}
	if !known {
		off = 0
	}
	return waited && !now.Add(off).Before(deadline)
}

// handleUnreadable ends a run whose store could not be read. Without the ledger it is unknown what to remove: a deleted object
// is released if later reads would fail too, or after the deadline.
func (r *run) handleUnreadable(ctx context.Context, err error) {
	if r.Deleting && fault.ReasonOf(err, "") == fault.Fenced {
		r.releaseDisowned(ctx)
		return
	}
	hopeless := fault.ReasonOf(err, "") == fault.LedgerInvalid
	late := r.pastDeadline(err) && (IsConflict(err) || r.entry.attempts[StepObserve].count >= PatientReads)
	if r.Deleting && (hopeless || late || r.endsWithNamespace(ctx, err)) {
		r.releaseUnread(ctx, err)
		return
	}
	if IsConflict(err) {
		r.endWithFailure(StepObserve, err)
		return
	}
	if r.isWaiting(StepObserve) {
		return
	}
	if fault.ReasonOf(err, "") != fault.Fenced {
		err = fmt.Errorf("reading the record: %w", err)
	}
	r.endWithFailure(StepObserve, err)
}

// releaseUnread releases a deleted object whose ledger cannot be read, and withdraws what it can without the ledger.
func (r *run) releaseUnread(ctx context.Context, err error) {
	if r.isWaiting(rotation.StepWithdraw) {
		return
	}
	if !r.entry.withdrawn {
		err = fmt.Errorf("the ledger could not be read: %w", err)
		left := Remains{Kept: err}
		if r.Delete && r.mayHaveLogins() {
			left.Remote = err
		}
		kept, failed := r.withdrawSecrets(ctx)
		if failed != nil {
			r.endWithFailure(rotation.StepWithdraw, failed)
			return
		}
		if kept == nil {
			left.Kept = nil
		}
		r.entry.withdrawn, r.entry.remains = true, left
	}
	if err := r.release(ctx); err != nil {
		r.endWithFailure(rotation.StepWithdraw, err)
	}
}

// releaseDisowned releases a deleted object whose ledger is a copy of another owner's, which stays. Only what carries our
// marker is ours: that is removed as in any deletion, and no message advises dropping the rest.
func (r *run) releaseDisowned(ctx context.Context) {
	if r.isWaiting(rotation.StepWithdraw) {
		return
	}
	r.disowned = true
	if r.Delete && !r.entry.withdrawn {
		remote, err := r.removeLogins(ctx)
		if err != nil {
			r.endWithFailure(rotation.StepWithdraw, err)
			return
		}
		r.entry.remains = Remains{Remote: remote, Copied: true}
	}
	r.entry.withdrawn = true
	if err := r.release(ctx); err != nil {
		r.endWithFailure(rotation.StepWithdraw, err)
	}
}

// checkStillDisowned returns an error unless the ledger is still a copy, before anything is removed for that reason.
func (r *run) checkStillDisowned(ctx context.Context) error {
	_, err := r.Store.Load(ctx)
	switch {
	case fault.ReasonOf(err, "") == fault.Fenced:
		return nil
	case err != nil:
		return err
	}
	return Conflict(errors.New("the ledger is no longer a copy"))
}

// stillWanted returns the check that a source makes right before it changes anything: that the ledger of this run is still the
// recorded one. A process that was paused and overtaken in between then changes nothing.
func (r *run) stillWanted() func(context.Context) error {
	if r.disowned {
		return r.checkStillDisowned
	}
	store, ok := r.Store.(interface {
		Confirm(ctx context.Context) error
	})
	if !ok {
		return nil
	}
	return func(ctx context.Context) error {
		err := store.Confirm(ctx)
		if apierrors.IsConflict(err) {
			return Conflict(err)
		}
		return err
	}
}

// previousRefused reports whether this process retired the previous version but could not record that yet.
func (r *run) previousRefused() bool {
	if previous := r.snapshot.Ledger.Previous; previous != nil && previous.Seq == r.entry.retiredSeq {
		return true
	}
	r.entry.retiredSeq = 0
	return false
}
