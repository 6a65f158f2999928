// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds.
var GroupVersion = schema.GroupVersion{Group: "rekey.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&CertificateAuthority{}, &CertificateAuthorityList{},
		&ClusterCertificateAuthority{}, &ClusterCertificateAuthorityList{},
		&ClientIdentity{}, &ClientIdentityList{},
		&ServerIdentity{}, &ServerIdentityList{},
		&RotationPolicy{}, &RotationPolicyList{},
		&DatabaseServer{}, &DatabaseServerList{},
		&DatabaseCredential{}, &DatabaseCredentialList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
