// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// lasts is the lifetime of a certificate. A life skips over days, and a certificate that the policy replaces every day must not
// expire before a process can replace it.
const lasts = 120 * time.Hour

// configureAuthority keeps the key pair when the authority is deleted: a recreated authority continues with the same one.
func configureAuthority(spec *v1alpha1.AuthoritySpec) {
	spec.DeletionPolicy, spec.Constraints.URIs = v1alpha1.DeletionRetain, nil
	spec.Constraints.Usages = []v1alpha1.Usage{v1alpha1.UsageClientAuth, v1alpha1.UsageServerAuth}
}

// configureIdentity lets the policy renew the certificate.
func configureIdentity(spec *v1alpha1.IdentitySpec) {
	spec.Lifetime, spec.RotationPolicyRef = fixture.Duration(lasts), &v1alpha1.LocalReference{Name: "daily"}
}

func anAuthority() *v1alpha1.CertificateAuthority {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) { configureAuthority(&a.Spec) })
}

// aClusterAuthority is cluster-scoped, and plays share the cluster, so its name is that of the play's namespace.
func (d *twoLeaders) aClusterAuthority() *v1alpha1.ClusterCertificateAuthority {
	return fixture.ClusterAuthority(d.Namespace, func(a *v1alpha1.ClusterCertificateAuthority) { configureAuthority(&a.Spec.AuthoritySpec) })
}

// aServerIdentity is issued by the cluster authority.
func (d *twoLeaders) aServerIdentity() *v1alpha1.ServerIdentity {
	return fixture.ServerIdentity("web", func(i *v1alpha1.ServerIdentity) {
		configureIdentity(&i.Spec.IdentitySpec)
		i.Spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(d.Namespace)}
		i.Spec.CommonName = "web"
	})
}

func anIdentity() *v1alpha1.ClientIdentity {
	return fixture.ClientIdentity("app", func(i *v1alpha1.ClientIdentity) { configureIdentity(&i.Spec.IdentitySpec) })
}

func aPolicy() *v1alpha1.RotationPolicy {
	return fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.Spec.JitterPercent = new(int32(0)) })
}

func aServer() *v1alpha1.DatabaseServer {
	return fixture.Server(func(s *v1alpha1.DatabaseServer) { fixture.Allow(s, "*", "*") })
}

func (d *twoLeaders) aCredential(policy v1alpha1.DeletionPolicy) *v1alpha1.DatabaseCredential {
	return fixture.Credential("orders", func(c *v1alpha1.DatabaseCredential) {
		c.Spec.DeletionPolicy = policy
		username, owner := d.database.base()
		fixture.SetLogin(c, "postgres", username, owner)
	})
}

// noteConditions records the conditions of an object: a message that differs in every reconcile causes a write in every
// reconcile.
func (d *twoLeaders) noteConditions(o client.Object) {
	for _, c := range fixture.Conditions(o) {
		d.record("    " + c.Type + " is " + string(c.Status) + ": " + c.Message)
	}
}
