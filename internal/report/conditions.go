// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/eventrecorder"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// State holds the facts of a condition, except its type, which follows from the field that holds the State.
type State struct {
	Status          metav1.ConditionStatus
	Reason, Message string
}

// IsReady reports whether an object's status has Ready True.
func IsReady(object v1alpha1.Object) bool {
	return meta.IsStatusConditionTrue(object.GetConditions(), v1alpha1.ConditionReady)
}

// Verified returns what the status reports about the last proof; nil if nothing.
func Verified(object v1alpha1.Object) *State { return stateOf(object, v1alpha1.ConditionVerified) }

// PreviousInUse returns what the status reports about the use of the previous version; nil if nothing.
func PreviousInUse(object v1alpha1.Object) *State {
	return stateOf(object, v1alpha1.ConditionPreviousInUse)
}

func stateOf(object v1alpha1.Object, kind string) *State {
	found := meta.FindStatusCondition(object.GetConditions(), kind)
	if found == nil {
		return nil
	}
	return &State{found.Status, found.Reason, found.Message}
}

// applyConditions converts the facts into conditions. Nothing else sets one.
func applyConditions(found Facts, object v1alpha1.Object, now time.Time) {
	conditions, generation := object.GetConditions(), object.GetGeneration()
	for _, wanted := range Conditions(found) {
		if found.ObservationFailed && keptUnread(wanted.Type, conditions) || found.DeadlineUnknown && keptDeadline(wanted) {
			continue
		}
		if wanted.Status == "" {
			meta.RemoveStatusCondition(&conditions, wanted.Type)
			continue
		}
		wanted.ObservedGeneration = generation
		wanted.LastTransitionTime = metav1.NewTime(now)
		wanted.Message = eventrecorder.Bounded(wanted.Message, maxMessage)
		meta.SetStatusCondition(&conditions, wanted)
	}
	object.SetConditions(conditions)
	object.SetObservedGeneration(generation)
}

// keptUnread reports whether a condition stays unchanged while nothing can be read.
func keptUnread(kind string, have []metav1.Condition) bool {
	switch kind {
	case v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled:
		return false
	case v1alpha1.ConditionReady:
		return meta.FindStatusCondition(have, kind) != nil
	}
	return true
}

// keptDeadline reports whether a condition about the deadline or a suspension stays, because its state is currently unknown.
func keptDeadline(wanted metav1.Condition) bool {
	return wanted.Status == "" && (wanted.Type == v1alpha1.ConditionExpiringSoon || wanted.Type == v1alpha1.ConditionRotationOverdue ||
		wanted.Type == v1alpha1.ConditionSuspended)
}

// Conditions derives all conditions from the facts. One without a status is absent.
func Conditions(found Facts) []metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: found.Ready, Reason: found.Reason, Message: found.Message}
	if found.Cause != nil && found.Ready != metav1.ConditionTrue && found.Reason == "" {
		ready.Reason, ready.Message = found.Cause.Reason, found.Cause.Message
	}
	message := ""
	if found.Cause != nil {
		message = found.Cause.Message
	}
	if found.Cause != nil && found.Standing != nil {
		message = fmt.Sprintf("%s. In addition, %s: %s", strings.TrimSuffix(message, "."), found.Standing.Reason, found.Standing.Message)
	}
	stalled := metav1.Condition{Type: v1alpha1.ConditionStalled}
	reconciling := metav1.Condition{Type: v1alpha1.ConditionReconciling}
	switch {
	case found.Cause != nil && found.Cause.Class == fault.ClassPermanent:
		stalled.Status, stalled.Reason, stalled.Message = metav1.ConditionTrue, found.Cause.Reason, message
	case found.Cause != nil && (found.Cause.Class != fault.ClassTransient || found.Ready != metav1.ConditionTrue || found.CauseHidden || found.Deleting):
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, found.Cause.Reason, message
	case found.Standing != nil:
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, found.Standing.Reason, found.Standing.Message
	case found.Cause == nil && found.Ready == metav1.ConditionFalse:
		// Nothing is under way that would repair it.
		stalled.Status, stalled.Reason, stalled.Message = metav1.ConditionTrue, found.Reason, found.Message
	case found.Progressing:
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, v1alpha1.ReasonProgressing, found.Message
	}
	expiring, overdue := expiryConditions(found)
	return []metav1.Condition{ready, stalled, reconciling, expiring, overdue,
		orAbsent(found.Rotating, v1alpha1.ConditionRotating), orAbsent(found.Suspended, v1alpha1.ConditionSuspended),
		orAbsent(found.Verified, v1alpha1.ConditionVerified), orAbsent(found.PreviousInUse, v1alpha1.ConditionPreviousInUse)}
}

func orAbsent(state *State, kind string) metav1.Condition {
	if state == nil {
		return metav1.Condition{Type: kind}
	}
	return metav1.Condition{Type: kind, Status: state.Status, Reason: state.Reason, Message: state.Message}
}

// expiryConditions returns how near the deadline is, and why nothing was replaced.
func expiryConditions(found Facts) (expiring, overdue metav1.Condition) {
	expiring.Type, overdue.Type = v1alpha1.ConditionExpiringSoon, v1alpha1.ConditionRotationOverdue
	health := found.Health
	if health.Level != rotation.LevelNone {
		expiring.Status, expiring.Reason = metav1.ConditionTrue, string(health.Level)
		verb := "expires"
		if health.Level == rotation.Expired {
			verb = "expired"
		}
		expiring.Message = fmt.Sprintf("%s %s at %s. %s", found.Subject, verb, fault.FormatTime(health.Deadline), found.whyNotReplaced())
	}
	if health.Overdue {
		overdue.Status, overdue.Reason = metav1.ConditionTrue, v1alpha1.ReasonRotationOverdue
		overdue.Message = fmt.Sprintf("%s was due to be replaced at %s. %s", found.Subject, fault.FormatTime(health.Due), found.whyNotReplaced())
	}
	return expiring, overdue
}

// whyNotReplaced explains why what expires was not replaced. Suspension comes first: without it, the rest might not be a problem.
func (found Facts) whyNotReplaced() string {
	switch {
	case found.Remedy != "":
		return found.Remedy
	case found.Suspended != nil:
		return found.Suspended.Message
	case found.Cause != nil:
		return "Cause: " + found.Cause.Message
	case found.Standing != nil:
		return "Cause: " + found.Standing.Message
	case found.Rotating != nil:
		return found.Rotating.Message
	}
	return found.Doing
}
