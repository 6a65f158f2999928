// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/eventlog"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/rotation"
)

const (
	// soonest and latest a pass wakes the next one.
	soonest = 50 * time.Millisecond
	latest  = time.Hour
	// maxMessage of a condition or Event, in bytes; maxSubject of a subject in a status.
	maxMessage = 1000
	maxSubject = 1000
)

// trouble is why something does not go on.
type trouble struct {
	class   fault.Class
	reason  string
	message string
	err     error
}

// newTrouble takes an error apart. A transient error without a reason of its own gets that of the place where it came up.
func newTrouble(err error, fallback fault.Reason) *trouble {
	if fallback == "" {
		fallback = fault.APIServerFailed
	}
	out := &trouble{class: fault.Classify(err), reason: string(fault.ReasonOf(err, fallback)), message: fault.MessageOf(err), err: err}
	if out.class == fault.ClassPending {
		out.reason = v1alpha1.ReasonProgressing
	}
	return out
}

func troubleOf(unmet rotation.Unmet) *trouble {
	out := &trouble{class: fault.ClassBlocked, reason: unmet.Reason, message: unmet.Message}
	switch {
	case unmet.Transient:
		out.class = fault.ClassTransient
	case unmet.Permanent:
		out.class = fault.ClassPermanent
	case unmet.Pending:
		out.class, out.reason = fault.ClassPending, v1alpha1.ReasonProgressing
	}
	return out
}

// news is something worth an Event that no condition shows.
type news struct {
	reason  string
	action  string
	message string
}

// report is what a pass found, in facts. It alone becomes conditions, status, Events, metrics and a Result.
type report struct {
	kind string
	// ready says whether what is published can be used; reason and message say so where nothing is wrong.
	ready           metav1.ConditionStatus
	reason, message string
	// cause is what is wrong; nil where nothing is. standing stands in the way of the next rotation besides.
	cause, standing *trouble
	// untold is true where the cause shows in no condition of its own while what is published goes on working.
	untold bool
	// progressing is true while a first issue, a change of the spec or a recovery is under way.
	progressing bool
	// health counts down to the deadline. subject names what expires. remedy says what replaces it, where rekey does not; doing
	// is what it does or waits for otherwise, where nothing is wrong.
	health                 rotation.Health
	subject, remedy, doing string
	// deadlineUnknown is true where the policy cannot be read that sets it, and that may suspend: what was said of both stays.
	deadlineUnknown bool
	// rotating, suspended, verified and previousInUse are conditions of credentials; nil where they are absent.
	rotating, suspended, verified, previousInUse *metav1.Condition
	news                                         []news
	// wakeAt is when to look again.
	wakeAt time.Time
	// unseen is true where somebody else wrote first, or nothing could be read just now: what was reported stays as it is,
	// and the next pass looks again. unread is true where nothing could be read for a while: that is said, and the rest of
	// what was reported stays.
	unseen, unread bool
	// deleting is true where the object waits for its finalizer: then everything that keeps it is told.
	deleting bool
}

// report writes the status where it changed, then tells the Events that follow from the change.
func (s *shared) report(ctx context.Context, before, after v1alpha1.Object, found report) (ctrl.Result, error) {
	now := s.clock.Now().UTC()
	if found.cause == nil && found.ready != "" {
		found.cause = s.unfollowed(after)
	}
	result := ctrl.Result{RequeueAfter: min(max(found.wakeAt.Sub(now), soonest), latest)}
	if found.cause != nil {
		// Not everything that may mend it can be watched. Remote ends have a pace of their own.
		result.RequeueAfter = min(result.RequeueAfter, s.driver.Attempts.Pace(string(after.GetUID()), found.cause.reason, now))
	}
	s.logTrouble(ctx, found)
	if found.unseen {
		return result, nil
	}
	old := slices.Clone(after.GetConditions())
	applyConditions(found, after, now)
	if equality.Semantic.DeepEqual(before, after) {
		return result, nil
	}
	if err := s.client.Status().Update(ctx, after); err != nil {
		return s.writeFailed(ctx, "status", result, err)
	}
	for _, told := range eventsOf(old, after.GetConditions(), found.news) {
		s.recorder.Eventf(after, nil, told.eventType, told.reason, told.action, "%s", eventlog.Bounded(told.message, maxMessage))
	}
	return result, nil
}

// writeFailed decides about a request that failed; of is the label that counts it ("status" for a status that could not be
// written). Somebody else's write and a deleted object are no failures; whatever it was, the next pass finds the same facts and
// writes them.
func (s *shared) writeFailed(ctx context.Context, of string, result ctrl.Result, err error) (ctrl.Result, error) {
	by := refusal.Of(err)
	switch {
	case by.Kind == refusal.KindNone && (apierrors.IsNotFound(err) || apierrors.IsConflict(err)):
		// Whether the object is gone is found out by the next pass: something between us and the API server may have said
		// so, and then nothing else would ever wake this object.
		result.RequeueAfter = lifecycle.ConflictWait
	default:
		if _, ok := access.Missing(err); ok {
			err = access.Failed("writing the object or its status", err)
		}
		log.FromContext(ctx).Error(apiReason(err), "A request to the API server failed; it is tried again", "refusedBy", by.String())
		s.metrics.errors.WithLabelValues(of, string(fault.ReasonOf(err, fault.APIServerFailed))).Inc()
		result.RequeueAfter = min(result.RequeueAfter, lifecycle.LookAgainBroken)
	}
	return result, nil
}

func (s *shared) logTrouble(ctx context.Context, found report) {
	if found.cause == nil || found.cause.err == nil {
		return
	}
	logger := log.FromContext(ctx).WithValues("reason", found.cause.reason, "class", found.cause.class.String())
	if found.cause.class == fault.ClassTransient {
		logger.Error(found.cause.err, "Reconciling failed; it is tried again", "nextAttempt", found.wakeAt)
		return
	}
	logger.Info("Waiting for somebody to act", "cause", found.cause.message)
}

// applyConditions turns the facts into conditions. It is the only place that sets one.
func applyConditions(found report, object v1alpha1.Object, now time.Time) {
	conditions, generation := object.GetConditions(), object.GetGeneration()
	for _, wanted := range conditionsOf(found) {
		if found.unread && keptUnread(wanted.Type, conditions) || found.deadlineUnknown && keptDeadline(wanted) {
			continue
		}
		if wanted.Status == "" {
			meta.RemoveStatusCondition(&conditions, wanted.Type)
			continue
		}
		wanted.ObservedGeneration = generation
		wanted.LastTransitionTime = metav1.NewTime(now)
		wanted.Message = eventlog.Bounded(wanted.Message, maxMessage)
		meta.SetStatusCondition(&conditions, wanted)
	}
	object.SetConditions(conditions)
	object.SetObservedGeneration(generation)
}

// keptUnread tells whether a condition stays as it was while nothing can be read.
func keptUnread(kind string, have []metav1.Condition) bool {
	switch kind {
	case v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled:
		return false
	case v1alpha1.ConditionReady:
		return meta.FindStatusCondition(have, kind) != nil
	}
	return true
}

// keptDeadline reports whether what was said of the deadline, and of a suspension, stays although nothing is known of it now.
func keptDeadline(wanted metav1.Condition) bool {
	return wanted.Status == "" && (wanted.Type == v1alpha1.ConditionExpiringSoon || wanted.Type == v1alpha1.ConditionRotationOverdue ||
		wanted.Type == v1alpha1.ConditionSuspended)
}

// conditionsOf derives every condition that a report speaks of. One without a status is absent.
func conditionsOf(found report) []metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: found.ready, Reason: found.reason, Message: found.message}
	if found.cause != nil && found.ready != metav1.ConditionTrue && found.reason == "" {
		ready.Reason, ready.Message = found.cause.reason, found.cause.message
	}
	told := ""
	if found.cause != nil {
		told = found.cause.message
	}
	if found.cause != nil && found.standing != nil {
		told = fmt.Sprintf("%s. In addition, %s: %s", strings.TrimSuffix(told, "."), found.standing.reason, found.standing.message)
	}
	stalled := metav1.Condition{Type: v1alpha1.ConditionStalled}
	reconciling := metav1.Condition{Type: v1alpha1.ConditionReconciling}
	switch {
	case found.cause != nil && found.cause.class == fault.ClassPermanent:
		stalled.Status, stalled.Reason, stalled.Message = metav1.ConditionTrue, found.cause.reason, told
	case found.cause != nil && (found.cause.class != fault.ClassTransient || found.ready != metav1.ConditionTrue || found.untold || found.deleting):
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, found.cause.reason, told
	case found.standing != nil:
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, found.standing.reason, found.standing.message
	case found.cause == nil && found.ready == metav1.ConditionFalse:
		// Nothing is under way that would make it right.
		stalled.Status, stalled.Reason, stalled.Message = metav1.ConditionTrue, found.reason, found.message
	case found.progressing:
		reconciling.Status, reconciling.Reason, reconciling.Message = metav1.ConditionTrue, v1alpha1.ReasonProgressing, found.message
	}
	expiring, overdue := expiryConditions(found)
	return []metav1.Condition{ready, stalled, reconciling, expiring, overdue,
		orAbsent(found.rotating, v1alpha1.ConditionRotating), orAbsent(found.suspended, v1alpha1.ConditionSuspended),
		orAbsent(found.verified, v1alpha1.ConditionVerified), orAbsent(found.previousInUse, v1alpha1.ConditionPreviousInUse)}
}

func orAbsent(condition *metav1.Condition, kind string) metav1.Condition {
	if condition == nil {
		return metav1.Condition{Type: kind}
	}
	condition.Type = kind
	return *condition
}

// expiryConditions say how near the deadline is, and why nothing has happened.
func expiryConditions(found report) (expiring, overdue metav1.Condition) {
	expiring.Type, overdue.Type = v1alpha1.ConditionExpiringSoon, v1alpha1.ConditionRotationOverdue
	health := found.health
	if health.Level != rotation.LevelNone {
		expiring.Status, expiring.Reason = metav1.ConditionTrue, string(health.Level)
		verb := "expires"
		if health.Level == rotation.Expired {
			verb = "expired"
		}
		expiring.Message = fmt.Sprintf("%s %s at %s. %s", found.subject, verb, fault.FormatTime(health.Deadline), found.whyNotReplaced())
	}
	if health.Overdue {
		overdue.Status, overdue.Reason = metav1.ConditionTrue, v1alpha1.ReasonRotationOverdue
		overdue.Message = fmt.Sprintf("%s was due to be replaced at %s. %s", found.subject, fault.FormatTime(health.Due), found.whyNotReplaced())
	}
	return expiring, overdue
}

// whyNotReplaced says why what expires was not replaced. Suspension comes first: without it, the rest might not stand in the way.
func (found report) whyNotReplaced() string {
	switch {
	case found.remedy != "":
		return found.remedy
	case found.suspended != nil:
		return found.suspended.Message
	case found.cause != nil:
		return "Why it was not replaced: " + found.cause.message
	case found.standing != nil:
		return "Why it was not replaced: " + found.standing.message
	case found.rotating != nil:
		return found.rotating.Message
	}
	return found.doing
}

// apiReason strips an API server's answer to its reason and code: what an admission webhook writes may quote the object.
func apiReason(err error) error {
	var status apierrors.APIStatus
	if _, ok := access.Missing(err); ok || !errors.As(err, &status) {
		return err // RBAC quotes the request, and nothing of the object
	}
	answer := status.Status()
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: answer.Status, Code: answer.Code, Reason: answer.Reason,
		Message: strings.TrimSpace(fmt.Sprintf("the API server answered %d %s", answer.Code, answer.Reason)), Details: answer.Details}}
}

// Small words for messages and statuses.

// timeRef is a time of a status; nil for none. RFC 3339 has four digits for a year: the API server refuses a whole status
// for a time that has more, or lies before the year 1.
func timeRef(t time.Time) *metav1.Time {
	if !t.After(time.Time{}) {
		return nil
	}
	if last := time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC); t.After(last) {
		t = last
	}
	return &metav1.Time{Time: t.UTC().Truncate(time.Second)}
}

func earliestOf(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// happening is an Event to tell.
type happening struct {
	eventType, reason, action, message string
}

// unfollowed says that changes are seen late, because a cache may not be filled. Everything else goes on.
func (s *shared) unfollowed(object v1alpha1.Object) *trouble {
	for _, kind := range s.kinds.kube().Watched(object) {
		if missing, blind := s.rights.Blind(kind, object.GetNamespace()); blind {
			return &trouble{class: fault.ClassBlocked, reason: string(fault.Forbidden), message: fmt.Sprintf(
				"changes are seen late, at most five minutes afterwards: %s", missing.Text())}
		}
	}
	return nil
}
