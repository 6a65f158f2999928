// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

func TestAnUnclearAnswerIsRetriedAndDiscardsNothing(t *testing.T) {
	t.Parallel()
	d := newDrive()
	d.source.answer, d.source.answerErr = credential.Unknown, errors.New("connection reset")
	for range 10 {
		out := d.run()
		if pending := out.Snapshot.Ledger.Pending; pending == nil || pending.Seq != 1 || pending.Stage != rotation.Staged || out.FailedStep != rotation.StepVerify {
			t.Fatalf("after an unclear answer the candidate is %+v, the failed step %q", pending, out.FailedStep)
		}
		d.wait(time.Hour)
	}
	d.source.answer, d.source.answerErr = credential.Accepted, nil
	out := d.run()
	if current := out.Snapshot.Ledger.Current; out.Err != nil || current == nil || current.Seq != 1 || out.Snapshot.Ledger.LastSeq != 1 {
		t.Errorf("the candidate was not published when it was accepted at last: %v", out.Err)
	}
}

// overtaken is a source that lets another process continue during Stage.
type overtaken struct {
	*driveSource

	goOn func()
}

func (s overtaken) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	defer s.goOn()
	return s.driveSource.Stage(ctx, change)
}

func TestALoginOpenedByAnOldLeaderIsClosedAgain(t *testing.T) {
	t.Parallel()
	version := func(seq int64, slot string, stage rotation.Stage) *secretstore.Record {
		return &secretstore.Record{Version: rotation.Version{Seq: seq, Slot: slot, Stage: stage}}
	}
	for name, tc := range map[string]struct {
		ledger secretstore.Ledger
		want   bool
	}{
		"another version is current":     {secretstore.Ledger{Current: version(3, "b", rotation.Current)}, true},
		"nothing is recorded":            {secretstore.Ledger{}, true},
		"the version was discarded":      {secretstore.Ledger{Pending: version(1, "a", rotation.Discarded)}, true},
		"the version is staged already":  {secretstore.Ledger{Pending: version(1, "a", rotation.Staged)}, false},
		"the version is the current one": {secretstore.Ledger{Current: version(1, "a", rotation.Current)}, false},
		"the version is the one before":  {secretstore.Ledger{Current: version(2, "b", rotation.Current), Previous: version(1, "a", rotation.Previous)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDrive()
			d.subject.Source = overtaken{d.source, func() {
				d.store.now.Ledger = tc.ledger
				d.store.saveErr = apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "x", errors.New("another process wrote"))
			}}
			d.run()
			if got := slices.Contains(d.source.calls, "retire 1 a"); got != tc.want {
				t.Errorf("closed again: %t, want %t; the remote system heard %v", got, tc.want, d.source.calls)
			}
		})
	}
}
