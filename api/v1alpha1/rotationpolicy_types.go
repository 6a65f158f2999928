// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Overlap is how long the previous version of a credential is still accepted.
// +kubebuilder:validation:MinProperties=1
type Overlap struct {
	// minimum time since the new version was published, at least 1s; 1h by default. It must be shorter than interval.
	// +optional
	// +default="1h"
	Minimum Duration `json:"minimum,omitzero"`
}

// RotationPolicySpec defines when credentials rotate, and how carefully.
// +kubebuilder:validation:XValidation:rule="!has(self.overlap) || !has(self.overlap.minimum) || !self.overlap.minimum.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || !self.interval.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self.overlap.minimum) < duration(self.interval) || (oldSelf.hasValue() && self.interval == oldSelf.value().interval && has(oldSelf.value().overlap) && has(oldSelf.value().overlap.minimum) && self.overlap.minimum == oldSelf.value().overlap.minimum)",optionalOldSelf=true,message="overlap.minimum must be shorter than interval: otherwise the next rotation is due before the previous login can be retired. Set a shorter overlap.minimum (1h by default) or a longer interval"
// +kubebuilder:validation:XValidation:rule="!has(self.maxAge) || !self.maxAge.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || !self.interval.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self.maxAge) - duration(self.interval) >= duration('1h') || (duration(self.maxAge) - duration(self.interval) >= duration('1m') && (duration(self.maxAge) - duration(self.interval)).getSeconds() * 10 >= duration(self.interval).getSeconds()) || (oldSelf.hasValue() && self.interval == oldSelf.value().interval && has(oldSelf.value().maxAge) && self.maxAge == oldSelf.value().maxAge)",optionalOldSelf=true,message="maxAge must be longer than interval by a tenth of interval (at least 1m; 1h is always enough): it is the deadline that a rotation must not miss"
// +kubebuilder:validation:XValidation:rule="!has(self.warnBefore) || !has(self.alarmBefore) || !self.alarmBefore.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || !self.warnBefore.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self.alarmBefore) < duration(self.warnBefore) || (oldSelf.hasValue() && has(oldSelf.value().warnBefore) && self.warnBefore == oldSelf.value().warnBefore && has(oldSelf.value().alarmBefore) && self.alarmBefore == oldSelf.value().alarmBefore)",optionalOldSelf=true,message="alarmBefore must be shorter than warnBefore: by default, alarmBefore is 4h and warnBefore 24h"
type RotationPolicySpec struct {
	// suspend stops the rotations of every credential that uses this policy while true. Warnings continue.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// interval between rotations, counted from the last one. At least 30s.
	// +required
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self) >= duration('30s')",message="must be at least 30s: set a longer duration"
	Interval Duration `json:"interval,omitzero"`
	// jitterPercent of the interval by which a rotation may be brought forward, from 0 to 50; 10 by default. It differs
	// between objects and revisions, and is constant for each of them.
	// +optional
	// +default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=50
	JitterPercent *int32 `json:"jitterPercent,omitempty"`
	// maxAge is the hard deadline for a password's age: warnings count down to it. It must exceed interval by a tenth of
	// interval (at least 1m; 1h is always enough); no deadline if it is unset. The credential stays Ready as long as it can
	// log in. It is ignored for certificates, which have a deadline of their own.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self) >= duration('1m')",message="must be at least 1m: set a longer duration"
	MaxAge *Duration `json:"maxAge,omitempty"`
	// overlap of the previous and the new version of a password. It is ignored for certificates, which overlap anyway.
	// +optional
	// +default={"minimum": "1h"}
	Overlap Overlap `json:"overlap,omitzero"`
	// warnBefore is how long before the deadline ExpiringSoon turns True with reason ExpiresSoon; 24h by default. At most 7/10
	// of the time from the due rotation to the deadline, so that a healthy credential does not warn.
	// +optional
	// +default="24h"
	WarnBefore Duration `json:"warnBefore,omitzero"`
	// alarmBefore is how long before the deadline the reason becomes ExpiresImminently; 4h by default. It must be shorter than
	// warnBefore, and is scaled down with it.
	// +optional
	// +default="4h"
	AlarmBefore Duration `json:"alarmBefore,omitzero"`
}

// RotationPolicyStatus is the last observed state. rekey never reads it back.
type RotationPolicyStatus struct {
	// conditions of type Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the conditions are about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// users is how many credentials use the policy.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Users *int32 `json:"users,omitempty"`
}

// RotationPolicy defines when credentials rotate, and how carefully, but not what they are.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rrp
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Interval",type=string,JSONPath=`.spec.interval`
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=`.status.users`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type RotationPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec RotationPolicySpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status RotationPolicyStatus `json:"status,omitzero"`
}

// RotationPolicyList is a list of policies.
//
// +kubebuilder:object:root=true
type RotationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []RotationPolicy `json:"items"`
}

var _ = register(&RotationPolicy{}, &RotationPolicyList{})
