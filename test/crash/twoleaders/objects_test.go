// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

func lasting(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// authority keeps its key pair when it is deleted: a recreated authority continues with the same one.
func authority(secret v1alpha1.ObjectName) v1alpha1.AuthoritySpec {
	return v1alpha1.AuthoritySpec{
		Managed:    &v1alpha1.ManagedAuthority{CommonName: "Two Leaders CA", KeyAlgorithm: "ECDSA-P256", Lifetime: lasting(43800 * time.Hour)},
		SecretName: secret, DeletionPolicy: v1alpha1.DeletionRetain,
		Constraints: v1alpha1.Constraints{MaxLifetime: lasting(720 * time.Hour), CommonNames: []v1alpha1.NamePattern{"*"},
			DNSNames: []v1alpha1.DNSPattern{"*.example.internal"}, Usages: []v1alpha1.Usage{v1alpha1.UsageClientAuth, v1alpha1.UsageServerAuth}},
	}
}

func anAuthority() *v1alpha1.CertificateAuthority {
	return &v1alpha1.CertificateAuthority{ObjectMeta: named("internal"), Spec: authority("internal-ca")}
}

// aClusterAuthority is cluster-scoped, and plays share the cluster, so its name is that of the play's namespace.
func (d *twoLeaders) aClusterAuthority() *v1alpha1.ClusterCertificateAuthority {
	return &v1alpha1.ClusterCertificateAuthority{ObjectMeta: named(d.Namespace), Spec: v1alpha1.ClusterAuthoritySpec{
		AuthoritySpec: authority("cluster-ca"), NamespaceSelector: &metav1.LabelSelector{},
	}}
}

// aServerIdentity is issued by the cluster authority.
func (d *twoLeaders) aServerIdentity() *v1alpha1.ServerIdentity {
	return &v1alpha1.ServerIdentity{ObjectMeta: named("web"), Spec: v1alpha1.ServerIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
		AuthorityRef: v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(d.Namespace)},
		CommonName:   "web", DNSNames: []v1alpha1.DNSName{"web.example.internal"}, Lifetime: lasting(lasts),
		SecretName: "web-mtls", RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"},
	}}}
}

// lasts is the lifetime of a certificate. A life skips over days, and a certificate that the policy replaces every day must not
// expire before a process can replace it.
const lasts = 120 * time.Hour

func anIdentity() *v1alpha1.ClientIdentity {
	return &v1alpha1.ClientIdentity{ObjectMeta: named("app"), Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
		AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"}, CommonName: "app", Lifetime: lasting(lasts),
		SecretName: "app-mtls", RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"},
	}}}
}

func aPolicy() *v1alpha1.RotationPolicy {
	return &v1alpha1.RotationPolicy{ObjectMeta: named("daily"), Spec: v1alpha1.RotationPolicySpec{
		Interval: lasting(24 * time.Hour), JitterPercent: new(int32(0)), MaxAge: &metav1.Duration{Duration: 72 * time.Hour}, Overlap: v1alpha1.Overlap{Minimum: lasting(time.Hour)},
		WarnBefore: lasting(24 * time.Hour), AlarmBefore: lasting(4 * time.Hour),
	}}
}

const address = "orders-db.data:5432"

func anAdminSecret() *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: named("orders-admin"),
		StringData: map[string]string{"username": "rotator", "password": "admin-password-of-the-test", "host": address}}
	secret.Labels = map[string]string{v1alpha1.LabelAllow: "true"}
	return secret
}

func aServer() *v1alpha1.DatabaseServer {
	return &v1alpha1.DatabaseServer{ObjectMeta: named("orders"), Spec: v1alpha1.DatabaseServerSpec{
		Engine: v1alpha1.EnginePostgreSQL, Address: address, TLS: v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeDisable},
		AdminSecretRef:   v1alpha1.LocalReference{Name: "orders-admin"},
		AllowedUsernames: []v1alpha1.RolePattern{"*"}, AllowedOwners: []v1alpha1.RolePattern{"*"},
	}}
}

func (d *twoLeaders) aCredential(policy v1alpha1.DeletionPolicy) *v1alpha1.DatabaseCredential {
	username, owner := d.database.base()
	return &v1alpha1.DatabaseCredential{ObjectMeta: named("orders"), Spec: v1alpha1.DatabaseCredentialSpec{
		ServerRef: v1alpha1.ServerReference{Name: "orders"}, Database: "postgres", Username: username,
		Strategy: v1alpha1.StrategyAlternatingUsers, Owner: owner, DeletionPolicy: policy,
		RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"}, SecretName: "orders-db",
	}}
}

// noteConditions records the conditions of an object: a message that differs in every reconcile causes a write in every
// reconcile.
func (d *twoLeaders) noteConditions(o client.Object) {
	_, conditions := statusOf(o)
	for _, c := range conditions {
		d.record("    " + c.Type + " is " + string(c.Status) + ": " + c.Message)
	}
}
