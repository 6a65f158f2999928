// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// noteRequests records what the annotations ask for. To retire a previous version that does not exist is done already, or it
// would end an overlap that nobody spoke of. Asked for together with a rotation it means the version that is published now:
// whoever answers a leak in one command wants that one refused as soon as its successor is published and proven.
func (r *run) recordRequests(l *secretstore.Ledger) {
	rotate := r.Rotate != "" && r.Rotate != l.Rotate.Seen
	if rotate {
		l.Rotate.Seen = r.Rotate
	}
	if r.RetirePrevious != "" && r.RetirePrevious != l.RetirePrevious.Seen {
		l.RetirePrevious.Seen, l.RetireThrough = r.RetirePrevious, 0
		if rotating := l.Rotate.Seen != l.Rotate.Honoured; l.Current != nil && rotating && (rotate || l.Previous == nil) {
			l.RetireThrough = l.Current.Seq
		}
	}
	if l.Previous == nil && (l.Current == nil || l.RetireThrough == 0) {
		markRetireHonored(l)
	}
}

// retireHonoured records that the request to retire the previous version is carried out.
func markRetireHonored(l *secretstore.Ledger) {
	l.RetirePrevious.Honoured, l.RetireThrough = l.RetirePrevious.Seen, 0
}

// keepRequest records a request where the pass ends before its Record: the annotation may be gone when the step succeeds that
// fails now. What is reported is that failure; whether this write succeeds shows in the next pass.
func (r *run) recordRequestEarly(ctx context.Context) {
	if r.out.Conflict || !rotation.Unrecorded(r.out.Observation) || r.out.FailedStep == rotation.StepRecord || r.out.Decision.Step == rotation.StepRecord {
		return
	}
	if r.perform(ctx, rotation.StepRecord) == nil {
		r.out.Performed = append(r.out.Performed, rotation.StepRecord)
	}
}
