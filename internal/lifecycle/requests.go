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
func (p *pass) noteRequests(l *secretstore.Ledger) {
	rotate := p.Rotate != "" && p.Rotate != l.Rotate.Seen
	if rotate {
		l.Rotate.Seen = p.Rotate
	}
	if p.RetirePrevious != "" && p.RetirePrevious != l.RetirePrevious.Seen {
		l.RetirePrevious.Seen, l.RetireThrough = p.RetirePrevious, 0
		if rotating := l.Rotate.Seen != l.Rotate.Honoured; l.Current != nil && rotating && (rotate || l.Previous == nil) {
			l.RetireThrough = l.Current.Seq
		}
	}
	if l.Previous == nil && (l.Current == nil || l.RetireThrough == 0) {
		retireHonoured(l)
	}
}

// retireHonoured records that the request to retire the previous version is carried out.
func retireHonoured(l *secretstore.Ledger) {
	l.RetirePrevious.Honoured, l.RetireThrough = l.RetirePrevious.Seen, 0
}

// keepRequest records a request where the pass ends before its Record: the annotation may be gone when the step succeeds that
// fails now. What is reported is that failure; whether this write succeeds shows in the next pass.
func (p *pass) keepRequest(ctx context.Context) {
	if p.out.Conflict || !rotation.Unrecorded(p.out.Observation) || p.out.FailedStep == rotation.StepRecord || p.out.Decision.Step == rotation.StepRecord {
		return
	}
	if p.perform(ctx, rotation.StepRecord) == nil {
		p.out.Performed = append(p.out.Performed, rotation.StepRecord)
	}
}
