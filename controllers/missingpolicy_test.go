// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rekey/rekey/api/v1alpha1"
)

// T4: a missing policy only pauses rotation, and what was reported about the deadline stays.
func TestAMissingPolicyRetiresNothingAndSilencesNoWarning(t *testing.T) {
	w := newWorld(t)
	object, policy := aCredential(), aPolicy()
	ready(w, policy, anAdminSecret(), aServer(), object)
	w.step(25 * time.Hour)
	w.settle(object, 8)
	w.edit(policy, func() { policy.Spec.Suspend = true })
	w.step(71 * time.Hour)
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
	w.wantCondition(object, v1alpha1.ConditionRotationOverdue, "True/RotationOverdue")
	if err := w.client.Delete(w.ctx, policy); err != nil {
		t.Fatal(err)
	}
	w.events()
	for range 5 {
		w.reconcile(object)
		w.step(time.Minute)
	}
	if login, _ := w.database.Login("orders_app_a"); !login.CanLogin {
		t.Error("the previous login was retired while the policy that suspends was missing")
	}
	w.wantCondition(object, v1alpha1.ConditionReconciling, "True/PolicyNotFound")
	w.wantCondition(object, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
	w.wantCondition(object, v1alpha1.ConditionRotationOverdue, "True/RotationOverdue")
	w.wantCondition(object, v1alpha1.ConditionSuspended, "True/Suspended")
	if events := w.events(); !with(events, "Warning PolicyNotFound") || with(events, "Resumed") {
		t.Errorf("Events: %q", events)
	}

	// Nothing is repaired either, as under suspension.
	login, _ := w.database.Login("orders_app_b")
	login.Password = "changed by hand"
	w.database.Put("orders_app_b", login)
	for range 5 {
		w.step(time.Hour)
		w.reconcile(object)
	}
	if login, _ = w.database.Login("orders_app_b"); login.Password != "changed by hand" {
		t.Error("a login was repaired while the policy was missing")
	}
	again := aPolicy()
	w.create(again)
	w.settle(object, 9)
	w.step(time.Minute)
	w.settle(object, 9)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionReconciling, "")
	w.wantCondition(object, v1alpha1.ConditionSuspended, "")
}

// Resumed is reported when rotation resumes: not when the suspending policy is deleted, but when it is recreated without suspend.
func TestADeletedPolicyResumesNothing(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	kept := aPolicy()
	kept.Namespace = w.namespace
	w.edit(kept, func() { kept.Spec.Suspend = true })
	w.settle(object, 3)
	if err := w.client.Delete(w.ctx, kept); err != nil {
		t.Fatal(err)
	}
	w.events()
	w.settle(object, 3)
	if events := w.events(); with(events, "Resumed") || !with(events, "PolicyNotFound") {
		t.Errorf("without the policy: %q", events)
	}
	w.create(aPolicy())
	w.settle(object, 3)
	if events := w.events(); !with(events, "Normal Resumed") {
		t.Errorf("with a policy that does not suspend: %q", events)
	}
	w.wantCondition(object, v1alpha1.ConditionSuspended, "")
}

// T4: a missing policy is also reported while a step fails for another reason.
func TestAMissingPolicyIsReportedBesideAFailingStep(t *testing.T) {
	for reason, refusal := range map[string]error{
		"APIServerFailed": apierrors.NewInternalError(errors.New("etcdserver: request timed out")),
		"QuotaExceeded":   apierrors.NewForbidden(corev1.Resource("secrets"), "app-mtls", errors.New("exceeded quota: team-quota")),
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			identity, authority, policy := aClientIdentity(), anAuthority(), aPolicy()
			identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
			ready(w, authority, policy, identity)
			if err := w.client.Delete(w.ctx, policy); err != nil {
				t.Fatal(err)
			}
			w.fail = func(of write) error {
				if writesOf("update", "app-mtls")(of) {
					return refusal
				}
				return nil
			}
			w.step(20 * time.Hour)
			for range 3 {
				w.reconcile(identity)
				w.step(time.Minute)
			}
			w.wantCondition(identity, v1alpha1.ConditionRotating, "True/"+reason)
			said := meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReconciling)
			if said == nil || said.Reason != "PolicyNotFound" && !strings.Contains(said.Message, "PolicyNotFound: RotationPolicy "+w.namespace+"/daily") {
				t.Errorf("the missing policy is not reported:%s", describeConditions(identity))
			}
		})
	}
}
