// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// condition returns "Status/Reason" of a condition, empty if it is absent.
func condition(o client.Object, kind string) string {
	if c := meta.FindStatusCondition(fixture.Conditions(o), kind); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

// wantCondition fails the test unless the condition is as wanted ("" for absent).
func (w *world) wantCondition(o client.Object, kind, want string) {
	w.t.Helper()
	if got := condition(o, kind); got != want {
		w.t.Errorf("%T %s: condition %s is %q, want %q; all: %s", o, o.GetName(), kind, got, want, describeConditions(o))
	}
}

func describeConditions(o client.Object) string {
	var out []string
	for _, c := range fixture.Conditions(o) {
		out = append(out, fmt.Sprintf("\n  %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, "")
}

// onlyWhileTrue are the conditions that are absent unless they are True.
var onlyWhileTrue = []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionExpiringSoon,
	v1alpha1.ConditionRotationOverdue, v1alpha1.ConditionRotating, v1alpha1.ConditionSuspended, v1alpha1.ConditionPreviousInUse}

// checkStatus checks what holds after every reconcile, whatever happened.
func (w *world) checkStatus(o client.Object) {
	w.t.Helper()
	conditions := fixture.Conditions(o)
	if len(conditions) == 0 {
		return
	}
	bad := func(format string, args ...any) {
		w.t.Helper()
		w.t.Errorf("%T %s: %s; conditions: %s", o, o.GetName(), fmt.Sprintf(format, args...), describeConditions(o))
	}
	if meta.FindStatusCondition(conditions, v1alpha1.ConditionReady) == nil {
		bad("there is no Ready condition")
	}
	stalled, reconciling := meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled), meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReconciling)
	if stalled && reconciling {
		bad("Stalled and Reconciling at once")
	}
	for _, c := range conditions {
		if slices.Contains(onlyWhileTrue, c.Type) && c.Status != metav1.ConditionTrue {
			bad("%s is present although it is not True", c.Type)
		}
		if c.ObservedGeneration > o.GetGeneration() || c.Message == "" || strings.Contains(c.Message, "%!") {
			bad("%s has a wrong generation or message", c.Type)
		}
	}
	if want, got := wantKstatus(conditions, stalled, reconciling), w.kstatus(o); !o.GetDeletionTimestamp().IsZero() {
		return
	} else if got != want {
		bad("kstatus says %s, want %s", got, want)
	}
}

func wantKstatus(conditions []metav1.Condition, stalled, reconciling bool) status.Status {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case reconciling:
		return status.InProgressStatus
	case stalled:
		return status.FailedStatus
	case ready != nil && ready.Status == metav1.ConditionTrue:
		return status.CurrentStatus
	}
	return status.InProgressStatus
}

// kstatus returns the object's status as GitOps tools see it.
func (w *world) kstatus(o client.Object) status.Status {
	w.t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		w.t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kindOf(o)))
	result, err := status.Compute(object)
	if err != nil {
		w.t.Fatal(err)
	}
	return result.Status
}

// with reports whether any line contains all the words.
func with(lines []string, words ...string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		for _, word := range words {
			if !strings.Contains(line, word) {
				return false
			}
		}
		return true
	})
}
