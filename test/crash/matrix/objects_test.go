// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

func authoritySpec(secret string) v1alpha1.AuthoritySpec {
	return v1alpha1.AuthoritySpec{
		Managed:    &v1alpha1.ManagedAuthority{CommonName: "Matrix CA", KeyAlgorithm: "ECDSA-P256", Lifetime: duration(43800 * time.Hour)},
		SecretName: v1alpha1.ObjectName(secret),
		Constraints: v1alpha1.Constraints{
			MaxLifetime: duration(720 * time.Hour), CommonNames: []v1alpha1.NamePattern{"*"}, DNSNames: []v1alpha1.DNSPattern{"*.example.internal"},
		},
	}
}

func anAuthority(name, secret string) *v1alpha1.CertificateAuthority {
	return &v1alpha1.CertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: authoritySpec(secret)}
}

func identitySpec(name string) v1alpha1.IdentitySpec {
	return v1alpha1.IdentitySpec{
		AuthorityRef: v1alpha1.AuthorityReference{Name: sharedAuthority}, Lifetime: duration(24 * time.Hour), SecretName: v1alpha1.ObjectName(name + "-secret"),
	}
}

func aPolicy(name string) *v1alpha1.RotationPolicy {
	return &v1alpha1.RotationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.RotationPolicySpec{
			Interval: duration(24 * time.Hour), MaxAge: &metav1.Duration{Duration: 72 * time.Hour}, JitterPercent: new(int32(0)),
			Overlap: v1alpha1.Overlap{Minimum: duration(time.Hour)}, WarnBefore: duration(24 * time.Hour), AlarmBefore: duration(4 * time.Hour),
		},
	}
}

func aServer(name, address string) *v1alpha1.DatabaseServer {
	return &v1alpha1.DatabaseServer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.DatabaseServerSpec{
			Engine: v1alpha1.EnginePostgreSQL, Address: address, TLS: v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeDisable},
			AdminSecretRef:   v1alpha1.LocalReference{Name: sharedAdmin},
			AllowedUsernames: []v1alpha1.RolePattern{"mr*"}, AllowedOwners: []v1alpha1.RolePattern{ownerRole},
		},
	}
}
