// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// The objects that most tests begin with. A test changes what it is about.

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

func anAuthority() *v1alpha1.CertificateAuthority {
	return &v1alpha1.CertificateAuthority{
		ObjectMeta: metav1.ObjectMeta{Name: "internal"},
		Spec: v1alpha1.AuthoritySpec{
			Managed:    &v1alpha1.ManagedAuthority{CommonName: "Test CA", KeyAlgorithm: "ECDSA-P256", Lifetime: duration(43800 * time.Hour)},
			SecretName: "internal-ca",
			Constraints: v1alpha1.Constraints{
				MaxLifetime: duration(720 * time.Hour), CommonNames: []v1alpha1.NamePattern{"*"},
				DNSNames: []v1alpha1.DNSPattern{"*.example.internal"}, URIs: []v1alpha1.URIPattern{"spiffe://example.internal/ns/web/*"},
			},
		},
	}
}

func aClientIdentity() *v1alpha1.ClientIdentity {
	return &v1alpha1.ClientIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
			AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"},
			CommonName:   "app", Lifetime: duration(24 * time.Hour), SecretName: "app-mtls",
		}},
	}
}

func aServerIdentity() *v1alpha1.ServerIdentity {
	return &v1alpha1.ServerIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: "api"},
		Spec: v1alpha1.ServerIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
			AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"},
			DNSNames:     []v1alpha1.DNSName{"api.example.internal"}, Lifetime: duration(24 * time.Hour), SecretName: "api-mtls",
		}},
	}
}

func aPolicy() *v1alpha1.RotationPolicy {
	return &v1alpha1.RotationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "daily"},
		Spec: v1alpha1.RotationPolicySpec{
			Interval: duration(24 * time.Hour), MaxAge: &metav1.Duration{Duration: 72 * time.Hour},
			Overlap: v1alpha1.Overlap{Minimum: duration(time.Hour)}, WarnBefore: duration(24 * time.Hour), AlarmBefore: duration(4 * time.Hour),
		},
	}
}

func anAdminSecret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "orders-admin", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		StringData: map[string]string{"username": "rotator", "password": "admin-password-of-the-test", "host": "orders-db.data:5432"},
	}
}

func aServer() *v1alpha1.DatabaseServer {
	return &v1alpha1.DatabaseServer{
		ObjectMeta: metav1.ObjectMeta{Name: "orders"},
		Spec: v1alpha1.DatabaseServerSpec{
			Engine: v1alpha1.EnginePostgreSQL, Address: "orders-db.data:5432", TLS: v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeDisable},
			AdminSecretRef:   v1alpha1.LocalReference{Name: "orders-admin"},
			AllowedUsernames: []v1alpha1.RolePattern{"orders_*"}, AllowedOwners: []v1alpha1.RolePattern{"orders_owner"},
		},
	}
}

func aCredential() *v1alpha1.DatabaseCredential {
	return &v1alpha1.DatabaseCredential{
		ObjectMeta: metav1.ObjectMeta{Name: "orders"},
		Spec: v1alpha1.DatabaseCredentialSpec{
			ServerRef: v1alpha1.ServerReference{Name: "orders"}, Database: "orders", Username: "orders_app",
			Strategy: v1alpha1.StrategyAlternatingUsers, Owner: "orders_owner",
			RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"}, SecretName: "orders-db",
		},
	}
}
