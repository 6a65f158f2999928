// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
)

// policyReconciler counts the users of a policy. The users' own controllers apply it.
type policyReconciler struct {
	shared
}

// Reconcile implements reconcile.Reconciler.
func (r *policyReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.RotationPolicy{}
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	before := object.DeepCopy()
	users, err := r.users(ctx, object)
	switch {
	case err == nil:
		object.Status.Users = new(users)
	case fault.ReasonOf(err, "") != fault.Forbidden:
		return r.reporter.WriteFailed(ctx, "apiserver", ctrl.Result{RequeueAfter: lifecycle.RecheckBroken}, fmt.Errorf("counting the users: %w", err))
	default:
		// The policy applies regardless of its users; the report below mentions that the count may be old.
	}
	found := report.Facts{
		Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: acceptedMessage(&object.Spec),
		WakeAt: r.clock.Now().Add(report.Latest),
	}
	if object.Spec.Suspend {
		found.Suspended = &report.State{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended, Message: found.Message}
	}
	return r.report(ctx, before, object, found)
}

// acceptedMessage describes what the policy does, and the effect of two durations that contradict each other: the API server
// rejects these now, but an earlier release may have stored them.
func acceptedMessage(spec *v1alpha1.RotationPolicySpec) string {
	interval, overlap := spec.Interval.Duration, spec.Overlap.Minimum.Duration
	text := fmt.Sprintf("Credentials rotate every %s.", interval)
	switch {
	case spec.Suspend:
		return "Rotation is suspended until spec.suspend is false."
	case spec.MaxAge != nil && !roomy(spec.MaxAge.Duration-interval, interval):
		return text + fmt.Sprintf(" spec.maxAge (%s) leaves too little time after the interval, so passwords can be reported as expired before they rotate: set a longer maxAge or a shorter interval.",
			spec.MaxAge.Duration)
	case overlap >= interval:
		return text + fmt.Sprintf(" spec.overlap.minimum (%s) is not shorter than the interval, so a rotation waits until the overlap ends: set a shorter overlap.minimum or a longer interval.", overlap)
	case spec.AlarmBefore.Duration >= spec.WarnBefore.Duration:
		return text + fmt.Sprintf(" spec.alarmBefore (%s) is not shorter than warnBefore, so the alarm comes without a warning: set a shorter alarmBefore or a longer warnBefore.", spec.AlarmBefore.Duration)
	}
	return text
}

// roomy reports whether a rotation that is due after interval has enough time left, in whole seconds, as admission counts.
func roomy(left, interval time.Duration) bool {
	return left >= time.Hour || left >= time.Minute && left/time.Second*10 >= interval/time.Second
}

// users counts the policy's users by index, without copying them.
func (r *policyReconciler) users(ctx context.Context, policy *v1alpha1.RotationPolicy) (int32, error) {
	total := 0
	for _, kind := range r.kinds.kube().UsersOf(kindRotationPolicy) {
		list := kind.NewList()
		if err := r.client.List(ctx, list, client.InNamespace(policy.Namespace),
			client.MatchingFields{kind.References[0].NameIndex: policy.Name}, client.UnsafeDisableDeepCopy); err != nil {
			return 0, err
		}
		total += meta.LenList(list)
	}
	return int32(min(total, 1<<30)), nil
}
