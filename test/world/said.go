// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/test/factcheck"
)

// checkStatus compares a status with the facts, before anything can happen to the write.
func (p *Process) checkStatus(ctx context.Context, o client.Object) {
	err := p.world.Said.Status(ctx, o)
	if p.racing {
		err = p.world.Said.Form(o)
	}
	if err != nil && ctx.Err() == nil {
		p.lie(fmt.Errorf("the status of %s %s makes a false claim: %w", KindOf(o), o.GetName(), err))
	}
}

// teller compares an Event with the facts when it is emitted.
type teller struct {
	process  *Process
	recorder events.EventRecorder
}

// Eventf implements events.EventRecorder.
func (t teller) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	text := fmt.Sprintf(note, args...)
	if object, ok := regarding.(client.Object); ok {
		err := factcheck.Message(text)
		if !t.process.racing {
			err = t.process.world.Said.Event(t.process.world.Ctx, object, reason, text)
		}
		if err != nil && t.process.world.Ctx.Err() == nil {
			t.process.lie(fmt.Errorf("the Event %s of %s %s makes a false claim: %w", reason, KindOf(object), object.GetName(), err))
		}
	}
	t.recorder.Eventf(regarding, related, kind, reason, action, "%s", text)
}
