// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Actions of Events (events.k8s.io/v1): what rekey was doing.
const (
	ActionReport  = "Report"
	ActionPublish = "Publish"
	ActionRetire  = "Retire"
)

// reasonsWithoutEvent lists routine reasons for which no Event is emitted.
var reasonsWithoutEvent = map[string]bool{
	v1alpha1.ReasonPublished: true, v1alpha1.ReasonProgressing: true, v1alpha1.ReasonScheduled: true,
	v1alpha1.ReasonSpecChanged: true, v1alpha1.ReasonRequested: true, v1alpha1.ReasonOverlapping: true,
	v1alpha1.ReasonLoggedIn: true, v1alpha1.ReasonNotProven: true, v1alpha1.ReasonSessionsOpen: true,
	v1alpha1.ReasonServing: true, v1alpha1.ReasonAccepted: true,
}

// Events compares the conditions before and after, so that nothing is reported twice, even after a restart: each problem once
// when it occurs, each level once, and the recovery. A reason is reported once, even if several conditions carry it.
func Events(before, after []metav1.Condition, more []ExtraEvent) []Event {
	var out []Event
	emitted := map[string]bool{}
	add := func(e Event) {
		if !emitted[e.Reason] {
			emitted[e.Reason] = true
			out = append(out, e)
		}
	}
	for _, n := range more {
		add(Event{corev1.EventTypeNormal, n.Reason, n.Action, n.Message})
	}
	known := map[string]bool{}
	for _, c := range before {
		known[c.Reason] = true
	}
	for _, c := range after {
		old := meta.FindStatusCondition(before, c.Type)
		if reasonsWithoutEvent[c.Reason] || known[c.Reason] && old != nil && old.Reason == c.Reason && old.Status == c.Status {
			continue
		}
		if known[c.Reason] {
			// The same problem, now in this condition too.
			continue
		}
		add(Event{typeOf(c.Reason), c.Reason, ActionReport, c.Message})
	}
	if over := recovery(before, after, len(more) > 0); over != nil {
		add(*over)
	}
	return out
}

func typeOf(reason string) string {
	if reason == v1alpha1.ReasonSuspended {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

// recovery reports that a problem is over, unless another Event already does.
func recovery(before, after []metav1.Condition, said bool) *Event {
	ready := meta.FindStatusCondition(after, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue {
		return nil
	}
	if meta.IsStatusConditionTrue(before, v1alpha1.ConditionSuspended) && meta.FindStatusCondition(after, v1alpha1.ConditionSuspended) == nil {
		return &Event{corev1.EventTypeNormal, v1alpha1.ReasonResumed, ActionReport, "Rotation resumed. " + ready.Message}
	}
	if said || !hasWarning(before) || hasWarning(after) {
		return nil
	}
	return &Event{corev1.EventTypeNormal, v1alpha1.ReasonRecovered, ActionReport, ready.Message}
}

// hasWarning reports whether any condition carries a warning.
func hasWarning(conditions []metav1.Condition) bool {
	for _, c := range conditions {
		if !reasonsWithoutEvent[c.Reason] && c.Reason != v1alpha1.ReasonSuspended {
			return true
		}
	}
	return false
}

// Event is an Event to emit. Type is that of the Event, Normal or Warning.
type Event struct{ Type, Reason, Action, Message string }
