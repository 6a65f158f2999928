// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

func authoritySpec(secret string) v1alpha1.AuthoritySpec {
	spec := fixture.AuthoritySpec(secret)
	spec.Constraints.URIs = nil
	return spec
}

// configureIdentity names the shared authority and the Secret of a run.
func configureIdentity(name string, spec *v1alpha1.IdentitySpec) {
	spec.AuthorityRef.Name, spec.SecretName = sharedAuthority, v1alpha1.ObjectName(name+"-secret")
}

func anAuthority(name, secret string) *v1alpha1.CertificateAuthority {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.Name, a.Spec = name, authoritySpec(secret) })
}

func aPolicy(name string) *v1alpha1.RotationPolicy {
	return fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.Name, p.Spec.JitterPercent = name, new(int32(0)) })
}

func aServer(name, address string) *v1alpha1.DatabaseServer {
	return fixture.Server(func(s *v1alpha1.DatabaseServer) {
		s.Name, s.Spec.Address, s.Spec.AdminSecretRef.Name = name, address, sharedAdmin
		fixture.Allow(s, "mr*", ownerRole)
	})
}
