// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
)

// authorityMaker makes authorities whose key rekey holds.
type authorityMaker struct{}

// Parse implements controllers.AuthorityMaker.
func (authorityMaker) Parse(crt, key, anchors []byte, constraints v1alpha1.Constraints) (*controllers.Authority, error) {
	parsed, err := ca.Parse(crt, key, anchors)
	if err != nil {
		return nil, err
	}
	signer, err := ca.New(parsed, constraintsOf(constraints))
	if err != nil {
		return nil, err
	}
	info := parsed.Info()
	return &controllers.Authority{
		Issuer: signer, SHA256: info.SHA256, Subject: info.Subject,
		NotBefore: info.NotBefore, NotAfter: info.ChainNotAfter, KeyID: info.KeyID, Anchors: info.Anchors,
	}, nil
}

// Make implements controllers.AuthorityMaker.
func (authorityMaker) Make(spec v1alpha1.ManagedAuthority, now time.Time) (crt []byte, key credential.Sensitive, err error) {
	return ca.NewSelfSigned(ca.Root{
		CommonName: spec.CommonName, KeyAlgorithm: issuer.KeyAlgorithm(spec.KeyAlgorithm), Lifetime: spec.Lifetime.Duration,
	}, now)
}

func constraintsOf(in v1alpha1.Constraints) ca.Constraints {
	out := ca.Constraints{
		MaxLifetime: in.MaxLifetime.Duration, CommonNames: texts(in.CommonNames), Organizations: texts(in.Organizations),
		DNSNames: texts(in.DNSNames), URIs: texts(in.URIs), IPRanges: texts(in.IPRanges), EmailDomains: texts(in.EmailDomains),
	}
	for _, usage := range in.Usages {
		out.Usages = append(out.Usages, issuer.Usage(usage))
	}
	return out
}

func texts[T ~string](in []T) []string {
	out := make([]string, 0, len(in))
	for _, text := range in {
		out = append(out, string(text))
	}
	return out
}
