// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// The simulation plays the whole life and every crash in it. These tests show what one Drive guarantees its caller.

func TestDriveGoesFromNothingToPublishedInOneReconcile(t *testing.T) {
	t.Parallel()
	d := newDrive()
	out := d.reconcile()
	want := []rotation.Step{rotation.StepPropose, rotation.StepStage, rotation.StepVerify, rotation.StepCommit, rotation.StepPublish}
	if diff := cmp.Diff(want, out.Performed); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	c := out.Snapshot.Ledger.Current
	if c == nil || c.Seq != 1 || c.Slot != "a" || c.Overlap != time.Hour || !c.PublishedAt.Equal(driveStart) {
		t.Errorf("the current version is %+v", out.Observation.Current)
	}
	if out.Decision.Row != "quiet" || !out.WakeAt().Equal(driveStart.Add(time.Hour-probeJitter(out))) {
		t.Errorf("row %s until %s", out.Decision.Row, out.WakeAt())
	}
	if writes := d.store.saves; d.reconcile().Err != nil || d.store.saves != writes {
		t.Error("a reconcile with nothing due wrote")
	}
}

// probeJitter returns how long before a full interval the first probe comes.
func probeJitter(out Outcome) time.Duration {
	return driveStart.Add(time.Hour).Sub(rotation.ProbeAt(out.Observation))
}

func TestDriveSendsOnlyWhatIsRecorded(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.store.saveErr = errors.New("etcd is down")
	out := d.reconcile()
	if out.Err == nil || out.FailedStep != rotation.StepPropose {
		t.Errorf("failed step %q: %v", out.FailedStep, out.Err)
	}
	if len(d.source.calls) != 0 {
		t.Errorf("the remote system heard of a version that is not recorded: %v", d.source.calls)
	}
}

func TestDriveRemembersWhyItWaits(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.stageErr = fault.Transient(fault.ServerUnreachable, errors.New("connection refused"))
	first := d.reconcile()
	calls := len(d.source.calls)
	second := d.reconcile()
	if len(d.source.calls) != calls {
		t.Errorf("it did not wait: %v", d.source.calls)
	}
	for _, out := range []Outcome{first, second} {
		if out.FailedStep != rotation.StepStage || fault.ReasonOf(out.Err, "") != fault.ServerUnreachable {
			t.Errorf("failed step %q with %v", out.FailedStep, out.Err)
		}
		if want := driveStart.Add(time.Second); !out.NextAttempt.Equal(want) || !out.WakeAt().Equal(want) {
			t.Errorf("next attempt at %s, wakes at %s, want %s", out.NextAttempt, out.WakeAt(), want)
		}
	}
	if !first.Tried || second.Tried {
		t.Errorf("tried %t and %t, want only the first", first.Tried, second.Tried)
	}
	d.subject.InputHash = "2"
	if out := d.reconcile(); len(d.source.calls) != calls+1 || !out.Tried {
		t.Error("a change of the inputs did not start over")
	}
	d.source.stageErr = nil
	d.wait(time.Minute)
	if out := d.reconcile(); out.Err != nil || !out.NextAttempt.IsZero() || out.Snapshot.Ledger.Current.Seq != 1 {
		t.Errorf("it did not recover with the same version: %v", out.Err)
	}
}

func TestDriveBacksOff(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.stageErr = errors.New("no")
	var waits []time.Duration
	for range 12 {
		out := d.reconcile()
		waits = append(waits, out.NextAttempt.Sub(d.clock.Now()))
		d.clock.SetTime(out.NextAttempt)
	}
	if !slices.IsSorted(waits) || waits[0] != time.Second || waits[11] != 5*time.Minute {
		t.Errorf("the waits are %v", waits)
	}
	d.source.stageErr = fault.Pending(7*time.Second, errors.New("soon"))
	if out := d.reconcile(); !out.NextAttempt.Equal(d.clock.Now().Add(7 * time.Second)) {
		t.Errorf("a pending error asks again at %s", out.NextAttempt)
	}
}

func TestDriveOutlivesAHungServer(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.hangs = true
	started := time.Now()
	out := d.reconcile()
	if !errors.Is(out.Err, context.DeadlineExceeded) || out.FailedStep != rotation.StepStage {
		t.Errorf("failed step %q with %v", out.FailedStep, out.Err)
	}
	if took := time.Since(started); took > 200*d.StepTimeout {
		t.Errorf("a call whose time is %s was given up after %s", d.StepTimeout, took)
	}
}

func TestDriveDistinguishesAConflictFromAnError(t *testing.T) {
	t.Parallel()
	gr := schema.GroupResource{Resource: "secrets"}
	for name, err := range map[string]error{
		"another process wrote":   apierrors.NewConflict(gr, "x", errors.New("x")),
		"another process created": apierrors.NewAlreadyExists(gr, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrive()
			d.store.saveErr = err
			out := d.reconcile()
			if out.Err != nil || !out.Conflict || !out.WakeAt().Equal(driveStart.Add(time.Second)) {
				t.Errorf("conflict %t, error %v, wakes at %s", out.Conflict, out.Err, out.WakeAt())
			}
		})
	}
	d := newDrive()
	d.source.stageErr = apierrors.NewConflict(gr, "x", errors.New("x"))
	if out := d.reconcile(); out.Conflict || out.Err == nil {
		t.Error("an error of the remote system was taken for a conflict")
	}
}

func TestDriveWithoutASourceReportsWhy(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Source, d.subject.SourceErr = nil, fault.Blocked(fault.ServerNotFound, errors.New("DatabaseServer orders not found"))
	if out := d.reconcile(); out.Err != nil {
		t.Errorf("with nothing to do it fails: %v", out.Err)
	}
	d.wait(2 * time.Hour)
	out := d.reconcile()
	if out.FailedStep != rotation.StepProbe || fault.ReasonOf(out.Err, "") != fault.ServerNotFound || fault.Classify(out.Err) != fault.ClassBlocked {
		t.Errorf("failed step %q with %v", out.FailedStep, out.Err)
	}
}

func TestDriveChecksTheRequestBeforeItStarts(t *testing.T) {
	t.Parallel()
	d := newDrive()
	asked := 0
	d.source.preflight = func(_ context.Context, ref credential.Ref) error {
		asked++
		return fault.Permanent(fault.LoginExists, fmt.Errorf("login of slot %s is there", ref.Slot))
	}
	out := d.reconcile()
	if fault.ReasonOf(out.Err, "") != fault.LoginExists || d.store.saves != 0 || len(d.source.calls) != 0 {
		t.Errorf("error %v, %d writes, calls %v", out.Err, d.store.saves, d.source.calls)
	}
	d.source.preflight = func(context.Context, credential.Ref) error { asked++; return nil }
	d.wait(time.Minute)
	d.reconcile()
	d.subject.Fingerprint = "v2"
	d.wait(time.Minute)
	if out := d.reconcile(); out.Snapshot.Ledger.Current.Seq != 2 || asked != 2 {
		t.Errorf("version %d after %d questions, want 2 after 2", out.Snapshot.Ledger.Current.Seq, asked)
	}
}

func TestDriveNeverTouchesAForeignSecret(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.store.now.Target, d.store.now.Conflict = rotation.TargetForeign, "Secret orders-db belongs to Helm"
	out := d.reconcile()
	u := out.Decision.Unmet
	if u == nil || u.Reason != string(fault.SecretConflict) || !u.Permanent || u.Message != "Secret orders-db belongs to Helm" {
		t.Errorf("unmet is %+v", u)
	}
	if len(out.Performed) != 0 || d.store.saves != 0 {
		t.Errorf("it did %v", out.Performed)
	}
}

func TestDriveCountsSessionsOfThePreviousVersion(t *testing.T) {
	t.Parallel()
	d := published(t)
	if out := d.reconcile(); out.Sessions != nil {
		t.Error("sessions are counted without a previous version")
	}
	d.subject.Rotate = "now"
	out := d.reconcile()
	if out.Sessions == nil || out.Sessions.Count != 3 || out.Snapshot.Ledger.Previous == nil {
		t.Fatalf("sessions are %+v", out.Sessions)
	}
	d.wait(time.Hour)
	if out := d.reconcile(); out.Sessions != nil || out.Snapshot.Ledger.Previous != nil {
		t.Error("the previous version was not retired")
	}
	if want := []string{"stage 2 b", "verify 2 b", "verify 2 b", "retire 1 a"}; !cmp.Equal(want, d.source.calls) {
		t.Errorf("calls %v, want %v", d.source.calls, want)
	}
}

func TestDriveHonorsARequestOnceAlthoughTheAnnotationVanishes(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Rotate = "now"
	d.source.stageErr = errors.New("down")
	d.reconcile()
	d.subject.Rotate, d.source.stageErr = "", nil
	d.wait(time.Minute)
	out := d.reconcile()
	if out.Snapshot.Ledger.Current.Seq != 2 || out.Snapshot.Ledger.Rotate.Honored != "now" {
		t.Errorf("version %d, honored %q", out.Snapshot.Ledger.Current.Seq, out.Snapshot.Ledger.Rotate.Honored)
	}
	d.subject.Rotate = "now"
	d.wait(2 * time.Hour)
	d.reconcile()
	if out := d.reconcile(); out.Snapshot.Ledger.Current.Seq != 2 {
		t.Error("the same request was honored twice")
	}
}

func TestDriveDoesNotLetAnOldRequestEndALaterOverlap(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.RetirePrevious = "leak"
	d.reconcile()
	d.subject.Rotate = "now"
	if out := d.reconcile(); out.Snapshot.Ledger.Previous == nil || out.Snapshot.Ledger.RetirePrevious.Honored != "leak" {
		t.Error("a request from before the rotation ended its overlap")
	}
}

func TestDriveRefusesToRepeatWhatChangesNothing(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.Next = func(rotation.Observation) rotation.Decision { return rotation.Decision{Step: rotation.StepPublish} }
	d.store.now.Target = rotation.TargetShowsCurrent
	out := d.reconcile()
	if out.Err == nil || !slices.Equal(out.Performed, []rotation.Step{rotation.StepPublish}) {
		t.Errorf("did %v, error %v", out.Performed, out.Err)
	}
}

func TestDriveIsBounded(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.Next = func(rotation.Observation) rotation.Decision {
		d.wait(time.Second) // so that every proof is a new situation
		return rotation.Decision{Step: rotation.StepProbe}
	}
	out := d.reconcile()
	if len(out.Performed) != maxSteps || out.Err != nil || out.NextAttempt.IsZero() {
		t.Errorf("%d steps, error %v, next attempt at %s", len(out.Performed), out.Err, out.NextAttempt)
	}
}

func TestNoErrorOfDriveHoldsASecret(t *testing.T) {
	t.Parallel()
	for _, breakIt := range []func(*drive){
		func(d *drive) { d.source.stageErr = errors.New("no") },
		func(d *drive) { d.source.answer = credential.Rejected },
		func(d *drive) { d.source.answer = credential.Unknown },
		func(d *drive) { d.store.saveErr = errors.New("no") },
	} {
		d := newDrive()
		breakIt(d)
		out := d.reconcile()
		if out.Err == nil {
			t.Fatal("nothing failed")
		}
		if text := fmt.Sprintf("%v %+v %#v %+v", out.Err, out, out.Snapshot, out.Snapshot.Ledger.Pending); strings.Contains(text, driveCanary) {
			t.Errorf("the secret is in %q", text)
		}
	}
}
