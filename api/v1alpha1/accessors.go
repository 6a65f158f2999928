// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is an object of any kind of this group.
// +kubebuilder:object:generate=false
type Object interface {
	metav1.Object
	runtime.Object
	// GetConditions returns the conditions in the status.
	GetConditions() []metav1.Condition
	// SetConditions replaces the conditions in the status.
	SetConditions(conditions []metav1.Condition)
	// SetObservedGeneration records in the status which generation the conditions are about.
	SetObservedGeneration(generation int64)
}

// Suspendable is an object with spec.suspend.
// +kubebuilder:object:generate=false
type Suspendable interface {
	// GetSuspend reports whether the object itself suspends rotation.
	GetSuspend() bool
}

// PolicyUser is an object that may name a RotationPolicy.
// +kubebuilder:object:generate=false
type PolicyUser interface {
	// GetRotationPolicyRef returns the reference to the policy; nil if there is none.
	GetRotationPolicyRef() *LocalReference
}

// IdentityObject is an object of either kind of identity.
// +kubebuilder:object:generate=false
type IdentityObject interface {
	Object
	// GetIdentitySpec returns what both kinds have in their spec.
	GetIdentitySpec() *IdentitySpec
	// GetIdentityStatus returns the status.
	GetIdentityStatus() *IdentityStatus
	// GetUsages returns what the certificate is for.
	GetUsages() []Usage
}

// AuthorityObject is an object of either kind of certificate authority.
// +kubebuilder:object:generate=false
type AuthorityObject interface {
	Object
	// GetAuthoritySpec returns what both kinds have in their spec.
	GetAuthoritySpec() *AuthoritySpec
	// GetAuthorityStatus returns the status.
	GetAuthorityStatus() *AuthorityStatus
	// GetNamespaceSelector returns the selector of a cluster-wide authority; nil for a namespaced one.
	GetNamespaceSelector() *metav1.LabelSelector
}

// GetConditions implements Object.
func (o *CertificateAuthority) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *CertificateAuthority) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *CertificateAuthority) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *ClusterCertificateAuthority) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *ClusterCertificateAuthority) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *ClusterCertificateAuthority) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *ClientIdentity) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *ClientIdentity) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *ClientIdentity) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *ServerIdentity) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *ServerIdentity) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *ServerIdentity) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *RotationPolicy) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *RotationPolicy) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *RotationPolicy) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *DatabaseServer) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *DatabaseServer) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *DatabaseServer) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetConditions implements Object.
func (o *DatabaseCredential) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions implements Object.
func (o *DatabaseCredential) SetConditions(conditions []metav1.Condition) {
	o.Status.Conditions = conditions
}

// SetObservedGeneration implements Object.
func (o *DatabaseCredential) SetObservedGeneration(generation int64) {
	o.Status.ObservedGeneration = generation
}

// GetSuspend implements Suspendable.
func (o *ClientIdentity) GetSuspend() bool { return o.Spec.Suspend }

// GetSuspend implements Suspendable.
func (o *ServerIdentity) GetSuspend() bool { return o.Spec.Suspend }

// GetSuspend implements Suspendable.
func (o *RotationPolicy) GetSuspend() bool { return o.Spec.Suspend }

// GetSuspend implements Suspendable.
func (o *DatabaseCredential) GetSuspend() bool { return o.Spec.Suspend }

// GetRotationPolicyRef implements PolicyUser.
func (o *ClientIdentity) GetRotationPolicyRef() *LocalReference { return o.Spec.RotationPolicyRef }

// GetRotationPolicyRef implements PolicyUser.
func (o *ServerIdentity) GetRotationPolicyRef() *LocalReference { return o.Spec.RotationPolicyRef }

// GetRotationPolicyRef implements PolicyUser.
func (o *DatabaseCredential) GetRotationPolicyRef() *LocalReference { return o.Spec.RotationPolicyRef }

// GetIdentitySpec implements IdentityObject.
func (o *ClientIdentity) GetIdentitySpec() *IdentitySpec { return &o.Spec.IdentitySpec }

// GetIdentityStatus implements IdentityObject.
func (o *ClientIdentity) GetIdentityStatus() *IdentityStatus { return &o.Status }

// GetIdentitySpec implements IdentityObject.
func (o *ServerIdentity) GetIdentitySpec() *IdentitySpec { return &o.Spec.IdentitySpec }

// GetIdentityStatus implements IdentityObject.
func (o *ServerIdentity) GetIdentityStatus() *IdentityStatus { return &o.Status }

// GetUsages implements IdentityObject.
func (o *ClientIdentity) GetUsages() []Usage { return []Usage{UsageClientAuth} }

// GetUsages implements IdentityObject.
func (o *ServerIdentity) GetUsages() []Usage {
	if len(o.Spec.Usages) == 0 {
		return []Usage{UsageServerAuth}
	}
	return o.Spec.Usages
}

// GetAuthoritySpec implements AuthorityObject.
func (o *CertificateAuthority) GetAuthoritySpec() *AuthoritySpec { return &o.Spec }

// GetAuthorityStatus implements AuthorityObject.
func (o *CertificateAuthority) GetAuthorityStatus() *AuthorityStatus { return &o.Status }

// GetAuthoritySpec implements AuthorityObject.
func (o *ClusterCertificateAuthority) GetAuthoritySpec() *AuthoritySpec { return &o.Spec.AuthoritySpec }

// GetAuthorityStatus implements AuthorityObject.
func (o *ClusterCertificateAuthority) GetAuthorityStatus() *AuthorityStatus { return &o.Status }

// GetNamespaceSelector implements AuthorityObject.
func (o *CertificateAuthority) GetNamespaceSelector() *metav1.LabelSelector { return nil }

// GetNamespaceSelector implements AuthorityObject.
func (o *ClusterCertificateAuthority) GetNamespaceSelector() *metav1.LabelSelector {
	return o.Spec.NamespaceSelector
}
