// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"math"
	"testing"
	"time"
)

// TestWhatCannotBeWatchedIsCheckedWithinFiveMinutes covers problems of any duration: half a minute at first, as documented.
func TestWhatCannotBeWatchedIsCheckedWithinFiveMinutes(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, age := range []time.Duration{0, time.Minute, 2 * time.Minute, 6 * time.Minute, 20 * time.Minute, 24 * time.Hour, 876_600 * time.Hour, math.MaxInt64} {
		memory := &Attempts{}
		memory.keepEntry("uid", memory.openEntry("uid", inputs{}, started))
		memory.Pace("uid", "SecretConflict", started)
		wait := memory.Pace("uid", "SecretConflict", started.Add(age))
		if wait < RecheckBroken || wait > RecheckHealthy || age <= 2*time.Minute && wait != RecheckBroken || age >= 20*time.Minute && wait != RecheckHealthy {
			t.Errorf("after %s the next look is in %s", age, wait)
		}
	}
}
