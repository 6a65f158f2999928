// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// The simulation plays the whole life and every crash in it. These tests show what one Drive guarantees its caller.

const driveCanary = "canary-3f1c"

// driveStore keeps a ledger, and reports that the Secret shows it once it is published.
type driveStore struct {
	now                secretstore.Snapshot
	loadErr, saveErr   error
	withdrawErr        error
	saves, withdrawals int
}

func (s *driveStore) Load(context.Context) (secretstore.Snapshot, error) { return s.now, s.loadErr }

func (s *driveStore) Save(_ context.Context, l secretstore.Ledger) (secretstore.Snapshot, error) {
	if s.saveErr != nil {
		return secretstore.Snapshot{}, s.saveErr
	}
	s.saves++
	s.now.Ledger = l
	return s.now, nil
}

func (s *driveStore) Publish(context.Context) (secretstore.Snapshot, error) {
	s.now.Target = rotation.TargetShowsCurrent
	return s.now, nil
}

func (s *driveStore) Withdraw(context.Context) error {
	if s.withdrawErr == nil {
		s.withdrawals++
	}
	return s.withdrawErr
}

// driveSource accepts everything unless it is configured otherwise.
type driveSource struct {
	proposeErr, stageErr, retireErr, removeErr, markErr error
	preflight                                           func(context.Context, credential.Ref) error
	answer                                              credential.Answer
	answerErr                                           error
	hangs                                               bool
	mark                                                credential.Marker
	calls                                               []string
}

func (s *driveSource) Traits() credential.Traits { return driveTraits }

func (s *driveSource) Propose(credential.Ref) (credential.Material, error) {
	return credential.Material{credential.KeyPassword: credential.SensitiveString(driveCanary)}, s.proposeErr
}

func (s *driveSource) Preflight(ctx context.Context, ref credential.Ref) error {
	if s.preflight == nil {
		return nil
	}
	return s.preflight(ctx, ref)
}

func (s *driveSource) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	s.calls = append(s.calls, fmt.Sprintf("stage %d %s", change.Ref.Seq, change.Ref.Slot))
	if s.hangs {
		<-ctx.Done()
		return credential.Staged{}, ctx.Err()
	}
	return credential.Staged{Material: change.Material}, s.stageErr
}

func (s *driveSource) Verify(_ context.Context, ref credential.Ref, _ credential.Material) (credential.Answer, error) {
	s.calls = append(s.calls, fmt.Sprintf("verify %d %s", ref.Seq, ref.Slot))
	return s.answer, s.answerErr
}

func (s *driveSource) Retire(_ context.Context, change credential.Change) error {
	s.calls = append(s.calls, fmt.Sprintf("retire %d %s", change.Ref.Seq, change.Ref.Slot))
	return s.retireErr
}

func (s *driveSource) Remove(_ context.Context, change credential.Change) error {
	s.calls = append(s.calls, fmt.Sprintf("remove %s", change.Ref.Slot))
	return s.removeErr
}

func (s *driveSource) Marker(context.Context, credential.Ref) (credential.Marker, error) {
	return s.mark, s.markErr
}

func (s *driveSource) Sessions(context.Context, credential.Ref) (credential.Sessions, error) {
	return credential.Sessions{Count: 3, Clients: []string{"app"}}, nil
}

var (
	driveTraits = credential.Traits{Durable: true, Provable: true, Revocable: true, Slots: []string{"a", "b"}}
	driveStart  = time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
)

type drive struct {
	*Driver
	clock   *testclock.FakePassiveClock
	store   *driveStore
	source  *driveSource
	subject Credential
}

func newDrive() *drive {
	d := &drive{
		clock: testclock.NewFakePassiveClock(driveStart), store: &driveStore{now: secretstore.Snapshot{Target: rotation.TargetMissing}},
		source: &driveSource{answer: credential.Accepted},
	}
	d.Driver = &Driver{
		Clock: d.clock, Skew: func() (time.Duration, bool) { return 0, true }, Attempts: &Attempts{}, StepTimeout: 50 * time.Millisecond,
	}
	d.subject = Credential{
		Ref: credential.Ref{Cluster: "c", Namespace: "web", Name: "orders"}, UID: "uid-1",
		Policy: rotation.Policy{Interval: 24 * time.Hour, MaxAge: 72 * time.Hour, Overlap: time.Hour, ProbeInterval: time.Hour},
		Traits: driveTraits, Fingerprint: "v1", Store: d.store, Source: d.source, InputHash: "1",
		WithdrawDeadline: driveStart.Add(10 * time.Minute),
	}
	return d
}

func (d *drive) run() Outcome { return d.Drive(context.Background(), d.subject) }

func (d *drive) wait(t time.Duration) { d.clock.SetTime(d.clock.Now().Add(t)) }

// published drives to the first published version.
func published(t *testing.T) *drive {
	t.Helper()
	d := newDrive()
	if out := d.run(); out.Err != nil || out.Snapshot.Ledger.Current == nil {
		t.Fatalf("the first version was not published: %v", out.Err)
	}
	d.source.calls = nil
	return d
}

func TestDriveGoesFromNothingToPublishedInOneReconcile(t *testing.T) {
	t.Parallel()
	d := newDrive()
	out := d.run()
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
	if writes := d.store.saves; d.run().Err != nil || d.store.saves != writes {
		t.Error("a run with nothing due wrote")
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
	out := d.run()
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
	first := d.run()
	calls := len(d.source.calls)
	second := d.run()
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
	if out := d.run(); len(d.source.calls) != calls+1 || !out.Tried {
		t.Error("a change of the inputs did not start over")
	}
	d.source.stageErr = nil
	d.wait(time.Minute)
	if out := d.run(); out.Err != nil || !out.NextAttempt.IsZero() || out.Snapshot.Ledger.Current.Seq != 1 {
		t.Errorf("it did not recover with the same version: %v", out.Err)
	}
}

func TestDriveBacksOff(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.stageErr = errors.New("no")
	var waits []time.Duration
	for range 12 {
		out := d.run()
		waits = append(waits, out.NextAttempt.Sub(d.clock.Now()))
		d.clock.SetTime(out.NextAttempt)
	}
	if !slices.IsSorted(waits) || waits[0] != time.Second || waits[11] != 5*time.Minute {
		t.Errorf("the waits are %v", waits)
	}
	d.source.stageErr = fault.Pending(7*time.Second, errors.New("soon"))
	if out := d.run(); !out.NextAttempt.Equal(d.clock.Now().Add(7 * time.Second)) {
		t.Errorf("a pending error asks again at %s", out.NextAttempt)
	}
}

func TestDriveOutlivesAHungServer(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.hangs = true
	started := time.Now()
	out := d.run()
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
			out := d.run()
			if out.Err != nil || !out.Conflict || !out.WakeAt().Equal(driveStart.Add(time.Second)) {
				t.Errorf("conflict %t, error %v, wakes at %s", out.Conflict, out.Err, out.WakeAt())
			}
		})
	}
	d := newDrive()
	d.source.stageErr = apierrors.NewConflict(gr, "x", errors.New("x"))
	if out := d.run(); out.Conflict || out.Err == nil {
		t.Error("an error of the remote system was taken for a conflict")
	}
}

func TestDriveWithoutASourceReportsWhy(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Source, d.subject.SourceErr = nil, fault.Blocked(fault.ServerNotFound, errors.New("DatabaseServer orders not found"))
	if out := d.run(); out.Err != nil {
		t.Errorf("with nothing to do it fails: %v", out.Err)
	}
	d.wait(2 * time.Hour)
	out := d.run()
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
	out := d.run()
	if fault.ReasonOf(out.Err, "") != fault.LoginExists || d.store.saves != 0 || len(d.source.calls) != 0 {
		t.Errorf("error %v, %d writes, calls %v", out.Err, d.store.saves, d.source.calls)
	}
	d.source.preflight = func(context.Context, credential.Ref) error { asked++; return nil }
	d.wait(time.Minute)
	d.run()
	d.subject.Fingerprint = "v2"
	d.wait(time.Minute)
	if out := d.run(); out.Snapshot.Ledger.Current.Seq != 2 || asked != 2 {
		t.Errorf("version %d after %d questions, want 2 after 2", out.Snapshot.Ledger.Current.Seq, asked)
	}
}

func TestDriveNeverTouchesAForeignSecret(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.store.now.Target, d.store.now.Conflict = rotation.TargetForeign, "Secret orders-db belongs to Helm"
	out := d.run()
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
	if out := d.run(); out.Sessions != nil {
		t.Error("sessions are counted without a previous version")
	}
	d.subject.Rotate = "now"
	out := d.run()
	if out.Sessions == nil || out.Sessions.Count != 3 || out.Snapshot.Ledger.Previous == nil {
		t.Fatalf("sessions are %+v", out.Sessions)
	}
	d.wait(time.Hour)
	if out := d.run(); out.Sessions != nil || out.Snapshot.Ledger.Previous != nil {
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
	d.run()
	d.subject.Rotate, d.source.stageErr = "", nil
	d.wait(time.Minute)
	out := d.run()
	if out.Snapshot.Ledger.Current.Seq != 2 || out.Snapshot.Ledger.Rotate.Honored != "now" {
		t.Errorf("version %d, honored %q", out.Snapshot.Ledger.Current.Seq, out.Snapshot.Ledger.Rotate.Honored)
	}
	d.subject.Rotate = "now"
	d.wait(2 * time.Hour)
	d.run()
	if out := d.run(); out.Snapshot.Ledger.Current.Seq != 2 {
		t.Error("the same request was honored twice")
	}
}

func TestDriveDoesNotLetAnOldRequestEndALaterOverlap(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.RetirePrevious = "leak"
	d.run()
	d.subject.Rotate = "now"
	if out := d.run(); out.Snapshot.Ledger.Previous == nil || out.Snapshot.Ledger.RetirePrevious.Honored != "leak" {
		t.Error("a request from before the rotation ended its overlap")
	}
}

func TestDriveRefusesToRepeatWhatChangesNothing(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.Next = func(rotation.Observation) rotation.Decision { return rotation.Decision{Step: rotation.StepPublish} }
	d.store.now.Target = rotation.TargetShowsCurrent
	out := d.run()
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
	out := d.run()
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
		out := d.run()
		if out.Err == nil {
			t.Fatal("nothing failed")
		}
		if text := fmt.Sprintf("%v %+v %#v %+v", out.Err, out, out.Snapshot, out.Snapshot.Ledger.Pending); strings.Contains(text, driveCanary) {
			t.Errorf("the secret is in %q", text)
		}
	}
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prepare   func(*drive)
		withdrawn bool
		remains   string
		calls     []string
		err       fault.Reason
	}{
		"retained: nothing remote is touched":            {prepare: func(d *drive) { d.subject.Delete = false }, withdrawn: true},
		"deleted: both logins are dropped":               {prepare: func(*drive) {}, withdrawn: true, calls: []string{"remove a", "remove b"}},
		"no ledger and no server: reported":              {prepare: func(d *drive) { d.store.now.Ledger = secretstore.Ledger{}; d.subject.Source = nil }, withdrawn: true, remains: "removing the logins"},
		"the server object is gone: released at once":    {prepare: noSource(fault.ServerNotFound), withdrawn: true, remains: "ServerNotFound"},
		"the admin Secret is gone: released at once":     {prepare: noSource(fault.SecretNotFound), withdrawn: true, remains: "SecretNotFound"},
		"the server is down: retried":                    {prepare: func(d *drive) { d.source.removeErr = fault.Transient(fault.ServerUnreachable, errors.New("down")) }, calls: []string{"remove a"}, err: fault.ServerUnreachable},
		"the server is down for too long: released":      {prepare: func(d *drive) { d.source.removeErr = errors.New("down"); d.wait(10 * time.Minute) }, withdrawn: true, remains: "down", calls: []string{"remove a", "remove b"}},
		"a ledger that cannot be read: released at once": {prepare: func(d *drive) { d.store.loadErr = fault.Permanent(fault.LedgerInvalid, errors.New("damaged")) }, withdrawn: true, remains: "damaged"},
		"the API server is down: retried":                {prepare: func(d *drive) { d.store.withdrawErr = fault.Transient(fault.APIServerFailed, errors.New("down")) }, calls: []string{"remove a", "remove b"}, err: fault.APIServerFailed},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.subject.Deleting, d.subject.Delete = true, true
			tc.prepare(d)
			out := d.run()
			if out.Withdrawn != tc.withdrawn || (d.store.withdrawals == 1) != tc.withdrawn {
				t.Errorf("withdrawn %t with %d withdrawals, want %t; %v", out.Withdrawn, d.store.withdrawals, tc.withdrawn, out.Err)
			}
			if (tc.remains == "") != (out.Remains == "") || !strings.Contains(out.Remains, tc.remains) {
				t.Errorf("left behind %q, want %q", out.Remains, tc.remains)
			}
			if diff := cmp.Diff(tc.calls, d.source.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if got := fault.ReasonOf(out.Err, ""); got != tc.err {
				t.Errorf("error %v, want the reason %q", out.Err, tc.err)
			}
			if !tc.withdrawn && out.NextAttempt.Sub(d.clock.Now()) > time.Minute {
				t.Errorf("it is retried only at %s", out.NextAttempt)
			}
		})
	}
}

func noSource(reason fault.Reason) func(*drive) {
	return func(d *drive) {
		d.subject.Source, d.subject.SourceErr = nil, fault.Blocked(reason, errors.New("there is no "+string(reason)))
	}
}

func TestARejectedCredentialIsJudgedByItsMarker(t *testing.T) {
	t.Parallel()
	ours := credential.Ref{Cluster: "c", Namespace: "web", Name: "orders"}.Owner()
	cases := map[string]struct {
		mark    credential.Marker
		markErr error
		want    rotation.MarkerState
		row     string
	}{
		"ours":             {mark: credential.Marker{Exists: true, Owner: ours, Seq: 1}, want: rotation.MarkerOurs, row: "reassert"},
		"ours, and newer":  {mark: credential.Marker{Exists: true, Owner: ours, Seq: 9}, want: rotation.MarkerOurs, row: "renumber"},
		"without a mark":   {mark: credential.Marker{Exists: true}, want: rotation.MarkerMissing, row: "reassert"},
		"gone":             {want: rotation.MarkerAbsent, row: "reassert"},
		"another owner's":  {mark: credential.Marker{Exists: true, Owner: "c/web/other", Seq: 9}, want: rotation.MarkerForeign, row: "refused"},
		"a cloned cluster": {mark: credential.Marker{Exists: true, Owner: "d/web/orders", Seq: 1}, want: rotation.MarkerForeign, row: "refused"},
		"unread":           {markErr: errors.New("down"), want: rotation.MarkerUnread, row: "refused"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.source.answer, d.source.mark, d.source.markErr = credential.Rejected, tc.mark, tc.markErr
			d.wait(time.Hour)
			if out := d.run(); out.Observation.Proof.Rejections != 1 || out.Observation.Marker.State != rotation.MarkerUnread {
				t.Fatalf("after one rejection: %+v", out.Observation.Proof)
			}
			var seen []rotation.Decision
			d.Next = func(o rotation.Observation) rotation.Decision {
				seen = append(seen, rotation.Next(o))
				if len(seen) > 1 && o.Marker.State != tc.want {
					t.Errorf("the mark is %q, want %q", o.Marker.State, tc.want)
				}
				if len(seen) > 1 {
					return rotation.Decision{Step: rotation.StepNone}
				}
				return seen[0]
			}
			d.wait(10 * time.Second)
			out := d.run()
			if tc.markErr != nil {
				if out.FailedStep != rotation.StepProbe || out.Err == nil {
					t.Errorf("failed step %q with %v", out.FailedStep, out.Err)
				}
				// As soon as the marker can be read, the login is set again, without waiting for the next probe of a refused version.
				d.source.mark, d.source.markErr, seen = credential.Marker{Exists: true, Owner: ours, Seq: 1}, nil, nil
				tc.want = rotation.MarkerOurs
				d.wait(10 * time.Second)
				d.run()
				if len(seen) != 2 || seen[1].Row != "reassert" {
					t.Errorf("decisions %+v when the mark can be read again", seen)
				}
				return
			}
			if len(seen) != 2 || seen[1].Row != tc.row {
				t.Errorf("decisions %+v, want the row %q", seen, tc.row)
			}
		})
	}
}

func TestAttemptsAreSafeForConcurrentUseAndForgotten(t *testing.T) {
	t.Parallel()
	memory := &Attempts{}
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			d := newDrive()
			d.Attempts = memory
			d.subject.UID = fmt.Sprint("uid-", i%10, "-", i)
			d.source.stageErr = errors.New("no")
			d.run()
			d.run()
			if i%2 == 0 {
				memory.Forget(d.subject.UID)
			}
		})
	}
	group.Wait()
	if len(memory.byUID) != 25 {
		t.Errorf("%d objects are remembered, want 25", len(memory.byUID))
	}
}

func TestAWithdrawnObjectIsForgotten(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Deleting = true
	d.run()
	if len(d.Attempts.byUID) != 0 {
		t.Error("a deleted object is remembered")
	}
}
