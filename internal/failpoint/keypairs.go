// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
)

// KeyPairs returns key pairs with a point before and after an authority is created, a certificate is signed, and a finished
// certificate is checked against the constraints of its authority, which is part of the last check before publication.
func (p *Points) KeyPairs(inner issuer.KeyPairs) issuer.KeyPairs { return trackedPairs{inner, p} }

type trackedPairs struct {
	issuer.KeyPairs
	points *Points
}

// Make implements issuer.KeyPairs.
func (k trackedPairs) Make(root issuer.Root, now time.Time) (crt []byte, key credential.Sensitive, err error) {
	crt, err = around(k.points, "Make", func() ([]byte, error) {
		crt, key, err = k.KeyPairs.Make(root, now)
		return crt, err
	})
	return crt, key, err
}

// Parse implements issuer.KeyPairs.
func (k trackedPairs) Parse(crt, key, anchors []byte, constraints issuer.Constraints, now time.Time) (*issuer.Authority, error) {
	authority, err := k.KeyPairs.Parse(crt, key, anchors, constraints, now)
	if err != nil {
		return nil, err
	}
	permitter, _ := authority.Issuer.(issuer.Permitter)
	authority.Issuer = trackedIssuer{authority.Issuer, permitter, k.points}
	return authority, nil
}

type trackedIssuer struct {
	issuer.Issuer
	permitter issuer.Permitter
	points    *Points
}

// Issue implements issuer.Issuer.
func (i trackedIssuer) Issue(ctx context.Context, request issuer.Request) (issuer.Chain, error) {
	return around(i.points, "Issue", func() (issuer.Chain, error) { return i.Issuer.Issue(ctx, request) })
}

// Permit implements issuer.Permitter.
func (i trackedIssuer) Permit(leaf *x509.Certificate) error {
	if i.permitter == nil {
		return nil
	}
	_, err := around(i.points, "Permit", func() (struct{}, error) { return struct{}{}, i.permitter.Permit(leaf) })
	return err
}
