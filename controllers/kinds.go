// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/report"
)

// kind is one entry of the table: everything the program needs to know about a kind.
type kind struct {
	kube.Kind
	// gauges returns the times of an object that the metrics show; nil for none.
	gauges func(v1alpha1.Object) report.Gauges
	// reconciler returns the controller of the kind.
	reconciler func(shared) reconcile.Reconciler
}

// kinds is the table. Everything in it is set up, watched, indexed, interned, counted and shown in metrics without another edit.
type kinds []kind

// Kind names.
const (
	kindCertificateAuthority        = string(v1alpha1.AuthorityKindNamespaced)
	kindClusterCertificateAuthority = string(v1alpha1.AuthorityKindCluster)
	kindClientIdentity              = "ClientIdentity"
	kindServerIdentity              = "ServerIdentity"
	kindDatabaseServer              = "DatabaseServer"
	kindDatabaseCredential          = "DatabaseCredential"
	kindRotationPolicy              = "RotationPolicy"
)

// allKinds returns the program's table of kinds.
func allKinds() kinds {
	return kinds{
		authorityKind(v1alpha1.AuthorityKindNamespaced, func() v1alpha1.AuthorityObject { return &v1alpha1.CertificateAuthority{} },
			func() client.ObjectList { return &v1alpha1.CertificateAuthorityList{} }),
		authorityKind(v1alpha1.AuthorityKindCluster, func() v1alpha1.AuthorityObject { return &v1alpha1.ClusterCertificateAuthority{} },
			func() client.ObjectList { return &v1alpha1.ClusterCertificateAuthorityList{} }),
		identityKind(kindClientIdentity, func() v1alpha1.IdentityObject { return &v1alpha1.ClientIdentity{} },
			func() client.ObjectList { return &v1alpha1.ClientIdentityList{} }),
		identityKind(kindServerIdentity, func() v1alpha1.IdentityObject { return &v1alpha1.ServerIdentity{} },
			func() client.ObjectList { return &v1alpha1.ServerIdentityList{} }),
		{
			Kind: kube.Kind{
				Name: kindDatabaseServer, New: func() v1alpha1.Object { return &v1alpha1.DatabaseServer{} },
				NewList: func() client.ObjectList { return &v1alpha1.DatabaseServerList{} },
			},
			reconciler: func(s shared) reconcile.Reconciler { return &serverReconciler{shared: s} },
		},
		{
			Kind: kube.Kind{
				Name: kindDatabaseCredential, New: func() v1alpha1.Object { return &v1alpha1.DatabaseCredential{} },
				NewList:    func() client.ObjectList { return &v1alpha1.DatabaseCredentialList{} },
				References: []kube.Reference{{To: kindDatabaseServer, Index: "rekey.server", Name: serverNamed}, policyReference},
				// Its Secrets are read live; changes to them are watched.
				OwnsSecrets: true,
			},
			gauges: func(o v1alpha1.Object) report.Gauges {
				status := o.(*v1alpha1.DatabaseCredential).Status //nolint:forcetypeassert // of this kind
				return report.Gauges{Renewal: status.NextRotationTime, LastRotation: status.LastRotationTime}
			},
			reconciler: func(s shared) reconcile.Reconciler { return &credentialReconciler{s} },
		},
		{
			Kind: kube.Kind{
				Name: kindRotationPolicy, New: func() v1alpha1.Object { return &v1alpha1.RotationPolicy{} },
				NewList: func() client.ObjectList { return &v1alpha1.RotationPolicyList{} }, CountsUsers: true,
			},
			reconciler: func(s shared) reconcile.Reconciler { return &policyReconciler{s} },
		},
	}
}

func authorityKind(name v1alpha1.AuthorityKind, newObject func() v1alpha1.AuthorityObject, newList func() client.ObjectList) kind {
	return kind{
		Kind: kube.Kind{
			Name: string(name), New: func() v1alpha1.Object { return newObject() }, NewList: newList,
			ClusterScoped: name == v1alpha1.AuthorityKindCluster, OwnsSecrets: true,
		},
		gauges: func(o v1alpha1.Object) report.Gauges {
			return report.Gauges{AuthorityNotAfter: o.(v1alpha1.AuthorityObject).GetAuthorityStatus().NotAfter} //nolint:forcetypeassert // of this kind
		},
		reconciler: func(s shared) reconcile.Reconciler { return &authorityReconciler{s, name, newObject} },
	}
}

func identityKind(name string, newObject func() v1alpha1.IdentityObject, newList func() client.ObjectList) kind {
	return kind{
		Kind: kube.Kind{
			Name: name, New: func() v1alpha1.Object { return newObject() }, NewList: newList,
			References: []kube.Reference{
				{To: kindCertificateAuthority, Index: "rekey.authority", Name: authorityNamed(v1alpha1.AuthorityKindNamespaced)},
				{To: kindClusterCertificateAuthority, Index: "rekey.clusterauthority", Name: authorityNamed(v1alpha1.AuthorityKindCluster)},
				policyReference,
			},
			FollowsNamespace: true, OwnsSecrets: true, StatusOnly: true, Intern: internIdentity,
			CachedSecret: func(o v1alpha1.Object) string {
				return string(o.(v1alpha1.IdentityObject).GetIdentitySpec().SecretName) //nolint:forcetypeassert // of this kind
			},
		},
		gauges: func(o v1alpha1.Object) report.Gauges {
			status := o.(v1alpha1.IdentityObject).GetIdentityStatus() //nolint:forcetypeassert // of this kind
			return report.Gauges{NotAfter: status.NotAfter, Renewal: status.RenewalTime}
		},
		reconciler: func(s shared) reconcile.Reconciler { return &identityReconciler{s, name, newObject} },
	}
}

// policyReference is the reference of every kind with a rotationPolicyRef.
var policyReference = kube.Reference{To: kindRotationPolicy, Index: "rekey.policyof", NameIndex: "rekey.policy", Name: policyNamed, SpecOnly: true}

// policyNamed returns the name of the policy that an object uses.
func policyNamed(object client.Object) string {
	if user, ok := object.(v1alpha1.PolicyUser); ok && user.GetRotationPolicyRef() != nil {
		return string(user.GetRotationPolicyRef().Name)
	}
	return ""
}

// authorityNamed returns a function that returns the name of the authority that an identity uses, if it is of that kind.
func authorityNamed(of v1alpha1.AuthorityKind) func(client.Object) string {
	return func(object client.Object) string {
		identity, ok := object.(v1alpha1.IdentityObject)
		if !ok || identity.GetIdentitySpec().AuthorityRef.Kind != of {
			return ""
		}
		return string(identity.GetIdentitySpec().AuthorityRef.Name)
	}
}

// serverNamed returns the name of the server that a credential uses.
func serverNamed(object client.Object) string {
	if login, ok := object.(*v1alpha1.DatabaseCredential); ok {
		return string(login.Spec.ServerRef.Name)
	}
	return ""
}

// internIdentity shares the texts that thousands of identities have in common.
func internIdentity(i *kube.Interner, o v1alpha1.Object) {
	identity, ok := o.(v1alpha1.IdentityObject)
	if !ok {
		return
	}
	spec, status := identity.GetIdentitySpec(), identity.GetIdentityStatus()
	spec.AuthorityRef.Kind = v1alpha1.AuthorityKind(i.Text(string(spec.AuthorityRef.Kind)))
	spec.AuthorityRef.Name = v1alpha1.ObjectName(i.Text(string(spec.AuthorityRef.Name)))
	spec.DeletionPolicy = v1alpha1.DeletionPolicy(i.Text(string(spec.DeletionPolicy)))
	if status.Binding != nil && status.Binding.Name == spec.SecretName { // equal, but stored twice
		status.Binding.Name = spec.SecretName
	}
}

// kube returns the part of the table that the cache, the indexes and the watches need.
func (k kinds) kube() kube.Kinds {
	out := make(kube.Kinds, 0, len(k))
	for _, one := range k {
		out = append(out, one.Kind)
	}
	return out
}

// report returns the part of the table that the metrics need.
func (k kinds) report() []report.Kind {
	out := make([]report.Kind, 0, len(k))
	for _, one := range k {
		out = append(out, report.Kind{Name: one.Name, NewList: one.NewList, Gauges: one.gauges})
	}
	return out
}

// CacheOptions returns what the manager's cache holds of every kind.
func CacheOptions(namespaces []string, operatorNamespace string, rights *access.Rights) cache.Options {
	return kube.CacheOptions(allKinds().kube(), namespaces, operatorNamespace, rights)
}
