// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// Outcome is what a pass found and did. Only report.go turns it into words for people.
type Outcome struct {
	// Observation, Decision and Health are the last ones of the pass; zero where nothing could be read.
	Observation rotation.Observation
	Decision    rotation.Decision
	Health      rotation.Health
	// Performed steps, in order, the failed one not included.
	Performed []rotation.Step
	// Snapshot is the last one read or written.
	Snapshot secretstore.Snapshot
	// Err is why FailedStep failed, in this pass or in an earlier one for which it still waits until NextAttempt.
	Err         error
	FailedStep  rotation.Step
	NextAttempt time.Time
	// Tried is true where Err came up in this pass. Failures counts how often FailedStep has failed in a row.
	Tried    bool
	Failures int
	// Conflict is true where somebody else wrote first. It is no error; NextAttempt is soon.
	Conflict bool
	// Refusal is why the current version was refused last, or cannot do its work; nil where that was not said.
	Refusal error
	// Sessions of the previous version; nil where there is none or the remote end cannot tell.
	Sessions *credential.Sessions
	// PreviousRefused is true where the previous version is refused by now, and the ledger could not be written yet.
	PreviousRefused bool
	// Withdrawn is true where the object may go. LeftBehind is what could not be cleaned, and why; often empty.
	Withdrawn  bool
	LeftBehind string
}

// WakeAt is when to look again if nothing else happens; zero where the object may go.
func (o Outcome) WakeAt() time.Time {
	if o.Withdrawn || (!o.NextAttempt.IsZero() && (o.Decision.WakeAt.IsZero() || o.NextAttempt.Before(o.Decision.WakeAt))) {
		return o.NextAttempt
	}
	return o.Decision.WakeAt
}
