// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// Outcome is what a run found and did, in facts. The caller turns it into conditions and messages.
type Outcome struct {
	// Observation, Decision and Health are the last ones of the run; zero if nothing could be read.
	Observation rotation.Observation
	Decision    rotation.Decision
	Health      rotation.Health
	// Performed are the steps that succeeded, in order.
	Performed []rotation.Step
	// Snapshot is the last one read or written.
	Snapshot secretstore.Snapshot
	// Err is why FailedStep failed, in this run or in an earlier one; it is not retried before NextAttempt.
	Err         error
	FailedStep  rotation.Step
	NextAttempt time.Time
	// Tried is true if Err came up in this run. Failures is how often FailedStep has failed in a row.
	Tried    bool
	Failures int
	// Conflict is true if another process wrote first. It is not an error; NextAttempt is soon.
	Conflict bool
	// Refusal is why the current version was last refused, or cannot do its work; nil if no reason was given.
	Refusal error
	// Sessions are those of the previous version; nil if there is none or the remote system cannot count them.
	Sessions *credential.Sessions
	// PreviousRefused is true if the previous version is refused by now and the ledger could not be written yet.
	PreviousRefused bool
	// Withdrawn is true once the finalizer is removed. Remains is what could not be cleaned up, and why; often empty.
	Withdrawn bool
	Remains   string
}

// WakeAt returns when to reconcile again if nothing else happens; zero if the object is released.
func (o Outcome) WakeAt() time.Time {
	if o.Withdrawn || (!o.NextAttempt.IsZero() && (o.Decision.WakeAt.IsZero() || o.NextAttempt.Before(o.Decision.WakeAt))) {
		return o.NextAttempt
	}
	return o.Decision.WakeAt
}
