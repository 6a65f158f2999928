// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"github.com/rekey/rekey/controllers"
)

// tell writes one pass into the story.
func (w *world) tell(out controllers.Outcome, died bool) {
	if died {
		w.say("the process died, and starts again")
		return
	}
	w.say("pass: did %v; now %s (%s): %s", out.Performed, out.Decision.Step, out.Decision.Row, out.Decision.Message)
	if out.Err != nil {
		w.say("  %s failed: %v", out.FailedStep, out.Err)
	}
}
