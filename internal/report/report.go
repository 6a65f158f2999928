// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/eventrecorder"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/rotation"
)

const (
	// Soonest is the shortest time until an object is reconciled again.
	Soonest = 50 * time.Millisecond
	// Latest is the longest.
	Latest = time.Hour
	// maxMessage limits the message of a condition or Event, in bytes.
	maxMessage = 1000
)

// Failure is why something does not continue.
type Failure struct {
	Class   fault.Class
	Reason  string
	Message string
	Err     error
}

// NewFailure converts an error. A transient error without a reason gets the caller's fallback.
func NewFailure(err error, fallback fault.Reason) *Failure {
	if fallback == "" {
		fallback = fault.APIServerFailed
	}
	out := &Failure{Class: fault.Classify(err), Reason: string(fault.ReasonOf(err, fallback)), Message: fault.MessageOf(err), Err: err}
	if out.Class == fault.ClassPending {
		out.Reason = v1alpha1.ReasonProgressing
	}
	return out
}

// FailureOf returns a precondition that does not hold as a failure.
func FailureOf(unmet rotation.Unmet) *Failure {
	out := &Failure{Class: fault.ClassBlocked, Reason: unmet.Reason, Message: unmet.Message}
	switch {
	case unmet.Transient:
		out.Class = fault.ClassTransient
	case unmet.Permanent:
		out.Class = fault.ClassPermanent
	case unmet.Pending:
		out.Class, out.Reason = fault.ClassPending, v1alpha1.ReasonProgressing
	}
	return out
}

// ExtraEvent is something worth an Event that no condition shows.
type ExtraEvent struct {
	Reason  string
	Action  string
	Message string
}

// Facts are what a reconcile found. Conditions, status, Events, metrics and Result follow from them alone.
type Facts struct {
	// Ready is whether what is published can be used. Reason and Message describe it if nothing is wrong.
	Ready           metav1.ConditionStatus
	Reason, Message string
	// Cause is what is wrong; nil if nothing is. Standing is what else blocks the next rotation.
	Cause, Standing *Failure
	// CauseHidden is true if no condition of its own shows the cause while the published credential keeps working.
	CauseHidden bool
	// Progressing is true while a first issue, a change of the spec or a recovery is under way.
	Progressing bool
	// Health counts down to the deadline. Subject names what expires. Remedy states what replaces it if rekey does not; otherwise
	// Doing states what rekey does or waits for if nothing is wrong.
	Health                 rotation.Health
	Subject, Remedy, Doing string
	// DeadlineUnknown is true if the policy that sets the deadline, and may suspend, cannot be read: what was reported of both stays.
	DeadlineUnknown bool
	// Rotating, Suspended, Verified and PreviousInUse are conditions of credentials; nil if absent.
	Rotating, Suspended, Verified, PreviousInUse *State
	// Events that follow from no condition.
	Events []ExtraEvent
	// WakeAt is when to reconcile again. Pace returns the maximum wait while there is a cause with that reason.
	WakeAt time.Time
	Pace   func(reason string, now time.Time) time.Duration
	// SkipStatus is true if another writer was first, or nothing could be read just now: what was reported stays until the next
	// reconcile. ObservationFailed is true if nothing could be read for a while: that is reported, and everything else that was
	// reported stays.
	SkipStatus, ObservationFailed bool
	// Deleting is true if the object waits for its finalizer: then everything that blocks it is reported.
	Deleting bool
}

// Reporter reports facts.
type Reporter struct {
	Client   client.StatusClient
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	Metrics  *Metrics
	// ConflictWait is the wait after another writer was first, RetryWait the wait after a failed request.
	ConflictWait, RetryWait time.Duration
}

// Report writes the status if it changed, then emits the Events that follow from the change, and those of the facts.
func (r *Reporter) Report(ctx context.Context, before, after v1alpha1.Object, found Facts) (ctrl.Result, error) {
	now := r.Clock.Now().UTC()
	result := ctrl.Result{RequeueAfter: min(max(found.WakeAt.Sub(now), Soonest), Latest)}
	if found.Cause != nil && found.Pace != nil {
		// Not everything that may repair it can be watched. Remote systems have their own pace.
		result.RequeueAfter = min(result.RequeueAfter, found.Pace(found.Cause.Reason, now))
	}
	logFailure(ctx, found)
	if found.SkipStatus {
		return result, nil
	}
	old := slices.Clone(after.GetConditions())
	applyConditions(found, after, now)
	if !equality.Semantic.DeepEqual(before, after) {
		if err := r.Client.Status().Update(ctx, after); err != nil {
			return r.WriteFailed(ctx, "status", result, err)
		}
	}
	for _, event := range Events(old, after.GetConditions(), found.Events) {
		r.Emit(after, event)
	}
	return result, nil
}

// Emit emits an Event.
func (r *Reporter) Emit(object v1alpha1.Object, event Event) {
	r.Recorder.Eventf(object, nil, event.Type, event.Reason, event.Action, "%s", eventrecorder.Bounded(event.Message, maxMessage))
}

// WriteFailed handles a failed request; of is the label that counts it ("status" for a status that could not be written). A
// lost race and a deleted object are not failures; in any case the next reconcile finds the same facts and writes them.
func (r *Reporter) WriteFailed(ctx context.Context, of string, result ctrl.Result, err error) (ctrl.Result, error) {
	by := refusal.Of(err)
	switch {
	case by.Kind == refusal.KindNone && (apierrors.IsNotFound(err) || apierrors.IsConflict(err)):
		// The next reconcile finds out whether the object is gone: a proxy in front of the API server may have answered, and then
		// nothing else would enqueue this object again.
		result.RequeueAfter = r.ConflictWait
	default:
		if _, ok := access.Missing(err); ok {
			err = access.Failed("writing the object or its status", err)
		}
		log.FromContext(ctx).Error(apiReason(err), "A request to the API server failed; retrying", "refusedBy", by.String())
		r.Metrics.Failed(of, fault.ReasonOf(err, fault.APIServerFailed))
		result.RequeueAfter = min(result.RequeueAfter, r.RetryWait)
	}
	return result, nil
}

func logFailure(ctx context.Context, found Facts) {
	if found.Cause == nil || found.Cause.Err == nil {
		return
	}
	logger := log.FromContext(ctx).WithValues("reason", found.Cause.Reason, "class", found.Cause.Class.String())
	if found.Cause.Class == fault.ClassTransient {
		logger.Error(found.Cause.Err, "Reconciling failed; retrying", "nextAttempt", found.WakeAt)
		return
	}
	logger.Info("Waiting for external action", "cause", found.Cause.Message)
}

// apiReason reduces an API server's error to its reason and code: the text of an admission webhook may quote the object.
func apiReason(err error) error {
	var status apierrors.APIStatus
	if _, ok := access.Missing(err); ok || !errors.As(err, &status) {
		return err // RBAC quotes the request, not the object
	}
	answer := status.Status()
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: answer.Status, Code: answer.Code, Reason: answer.Reason,
		Message: strings.TrimSpace(fmt.Sprintf("the API server answered %d %s", answer.Code, answer.Reason)), Details: answer.Details}}
}
