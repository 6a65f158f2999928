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

// Issuer returns an opener with a point before and after a key pair is created, a certificate is signed, and a finished
// certificate is checked against the constraints of its authority, which is part of the last check before publication.
func (p *Points) Issuer(inner issuer.Opener) issuer.Opener {
	opener := trackedOpener{inner, p}
	if creator, ok := inner.(issuer.Creator); ok {
		return trackedCreator{opener, creator}
	}
	return opener
}

type trackedOpener struct {
	issuer.Opener
	points *Points
}

// Open implements issuer.Opener.
func (o trackedOpener) Open(ctx context.Context, config issuer.Config) (*issuer.Authority, error) {
	authority, err := o.Opener.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	authority.Issuer = trackedIssuer{authority.Issuer, o.points}
	return authority, nil
}

type trackedCreator struct {
	trackedOpener
	creator issuer.Creator
}

// Create implements issuer.Creator.
func (c trackedCreator) Create(settings []byte, now time.Time) (credential.Material, error) {
	return around(c.points, "Create", func() (credential.Material, error) { return c.creator.Create(settings, now) })
}

type trackedIssuer struct {
	issuer.Issuer
	points *Points
}

// Issue implements issuer.Issuer.
func (i trackedIssuer) Issue(ctx context.Context, request issuer.Request) (issuer.Chain, error) {
	return around(i.points, "Issue", func() (issuer.Chain, error) { return i.Issuer.Issue(ctx, request) })
}

// Permit implements issuer.Permitter.
func (i trackedIssuer) Permit(leaf *x509.Certificate) error {
	permitter, ok := i.Issuer.(issuer.Permitter)
	if !ok {
		return nil
	}
	_, err := around(i.points, "Permit", func() (struct{}, error) { return struct{}{}, permitter.Permit(leaf) })
	return err
}

// ChainFor implements issuer.Chainer.
func (i trackedIssuer) ChainFor(leaf *x509.Certificate, now time.Time) []byte {
	if chainer, ok := i.Issuer.(issuer.Chainer); ok {
		return chainer.ChainFor(leaf, now)
	}
	return nil
}
