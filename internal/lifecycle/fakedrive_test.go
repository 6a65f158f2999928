// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

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

func (d *drive) reconcile() Outcome { return d.Drive(context.Background(), d.subject) }

func (d *drive) wait(t time.Duration) { d.clock.SetTime(d.clock.Now().Add(t)) }

// published drives to the first published version.
func published(t *testing.T) *drive {
	t.Helper()
	d := newDrive()
	if out := d.reconcile(); out.Err != nil || out.Snapshot.Ledger.Current == nil {
		t.Fatalf("the first version was not published: %v", out.Err)
	}
	d.source.calls = nil
	return d
}
