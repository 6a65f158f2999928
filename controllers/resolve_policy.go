// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/rotation"
)

// Defaults without a RotationPolicy. The page of each kind documents them.
const (
	defaultOverlap     = time.Hour
	defaultWarnBefore  = 24 * time.Hour
	defaultAlarmBefore = 4 * time.Hour
	probeInterval      = time.Hour
	// renewShare is the divisor for the default of spec.renewBefore: a third of the certificate's lifetime.
	renewShare = 3
)

// resolvedPolicy is a RotationPolicy, or the defaults without one.
type resolvedPolicy struct {
	rotation.Policy
	suspended bool
	// version of the policy object, for the input hash.
	version string
}

// resolvePolicy reads the policy that ref names, in the namespace of the object. If it does not exist, it returns the defaults,
// so that expiry warnings continue, and an error that names it.
func resolvePolicy(ctx context.Context, reader client.Reader, namespace string, ref *v1alpha1.LocalReference) (resolvedPolicy, error) {
	out := resolvedPolicy{Policy: rotation.Policy{
		Overlap: defaultOverlap, WarnBefore: defaultWarnBefore, AlarmBefore: defaultAlarmBefore, ProbeInterval: probeInterval,
	}}
	if ref == nil {
		return out, nil
	}
	var policy v1alpha1.RotationPolicy
	err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: string(ref.Name)}, &policy)
	if apierrors.IsNotFound(err) {
		return out, fault.Blocked(fault.PolicyNotFound, fmt.Errorf(
			"RotationPolicy %s/%s not found: create it, or change spec.rotationPolicyRef", namespace, ref.Name))
	}
	if err != nil {
		return out, refusal.Fault(fmt.Sprintf("reading RotationPolicy %s/%s", namespace, ref.Name), err, nil)
	}
	spec := policy.Spec
	out.Interval = spec.Interval.Duration
	out.JitterPercent = int(ptr.Deref(spec.JitterPercent, 0))
	if spec.MaxAge != nil {
		out.MaxAge = spec.MaxAge.Duration
	}
	out.Overlap = spec.Overlap.Minimum.Duration
	out.WarnBefore = spec.WarnBefore.Duration
	out.AlarmBefore = spec.AlarmBefore.Duration
	out.suspended = spec.Suspend
	out.version = string(policy.UID) + "/" + fmt.Sprint(policy.Generation)
	return out, nil
}

// unmetOf converts the error of a lookup into a precondition that does not hold.
func unmetOf(err error) rotation.Unmet {
	return rotation.Unmet{
		Reason:    string(fault.ReasonOf(err, fault.APIServerFailed)),
		Message:   err.Error(),
		Permanent: fault.Classify(err) == fault.ClassPermanent,
		Pending:   fault.Classify(err) == fault.ClassPending,
		Transient: fault.Classify(err) == fault.ClassTransient,
	}
}
