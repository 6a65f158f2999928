// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// recordRequests records what the annotations ask for. A request to retire a previous version that does not exist counts as
// carried out; otherwise it would end a later overlap. Together with a request to rotate, it means the version that is published
// now: a user who reacts to a leak with one command wants that version refused as soon as its successor is published and proven.
func (r *run) recordRequests(l *secretstore.Ledger) {
	rotate := r.Rotate != "" && r.Rotate != l.Rotate.Seen
	if rotate {
		l.Rotate.Seen = r.Rotate
	}
	if r.RetirePrevious != "" && r.RetirePrevious != l.RetirePrevious.Seen {
		l.RetirePrevious.Seen, l.RetireThrough = r.RetirePrevious, 0
		if rotating := l.Rotate.Seen != l.Rotate.Honored; l.Current != nil && rotating && (rotate || l.Previous == nil) {
			l.RetireThrough = l.Current.Seq
		}
	}
	if l.Previous == nil && (l.Current == nil || l.RetireThrough == 0) {
		markRetireHonored(l)
	}
}

// markRetireHonored records that the request to retire the previous version is carried out.
func markRetireHonored(l *secretstore.Ledger) {
	l.RetirePrevious.Honored, l.RetireThrough = l.RetirePrevious.Seen, 0
}

// recordRequestEarly records a request if the run ends before its Record step: the annotation may be gone by the time the failing step
// succeeds. The outcome reports that failure; the next run shows whether this write succeeded.
func (r *run) recordRequestEarly(ctx context.Context) {
	if r.out.Conflict || !rotation.Unrecorded(r.out.Observation) || r.out.FailedStep == rotation.StepRecord || r.out.Decision.Step == rotation.StepRecord {
		return
	}
	if r.perform(ctx, rotation.StepRecord) == nil {
		r.out.Performed = append(r.out.Performed, rotation.StepRecord)
	}
}
