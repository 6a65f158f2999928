// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
)

// policyReconciler says who uses a policy. What it means is read by those.
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
		return r.writeFailed(ctx, "apiserver", ctrl.Result{RequeueAfter: lookAgainBroken}, fmt.Errorf("counting the users: %w", err))
	default:
		// The policy holds whoever uses it; that the count may be old is said below.
	}
	found := report{
		kind:   "RotationPolicy",
		reader: statusParts{&object.Status.Conditions, &object.Status.ObservedGeneration},
		ready:  metav1.ConditionTrue, reason: v1alpha1.ReasonAccepted,
		message: fmt.Sprintf("Credentials rotate every %s.", object.Spec.Interval.Duration),
		wakeAt:  r.clock.Now().Add(latest),
	}
	if object.Spec.Suspend {
		found.message = "Rotation is suspended until spec.suspend is false."
		found.suspended = &metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended, Message: found.message}
	}
	return r.report(ctx, before, object, found)
}

// users counts by index, without copying what is counted.
func (r *policyReconciler) users(ctx context.Context, policy *v1alpha1.RotationPolicy) (int32, error) {
	total := 0
	options := []client.ListOption{client.InNamespace(policy.Namespace), client.MatchingFields{indexPolicyName: policy.Name}, client.UnsafeDisableDeepCopy}
	for _, list := range []client.ObjectList{&v1alpha1.ClientIdentityList{}, &v1alpha1.ServerIdentityList{}, &v1alpha1.DatabaseCredentialList{}} {
		if err := r.client.List(ctx, list, options...); err != nil {
			return 0, err
		}
		total += lengthOf(list)
	}
	return int32(min(total, 1<<30)), nil
}

func lengthOf(list client.ObjectList) int {
	switch l := list.(type) {
	case *v1alpha1.ClientIdentityList:
		return len(l.Items)
	case *v1alpha1.ServerIdentityList:
		return len(l.Items)
	case *v1alpha1.DatabaseCredentialList:
		return len(l.Items)
	}
	return 0
}
