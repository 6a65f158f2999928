// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
)

// KeyPairs implements issuer.KeyPairs for authorities with a key that rekey holds.
type KeyPairs struct{}

// Parse implements issuer.KeyPairs.
func (KeyPairs) Parse(crt, key, anchors []byte, constraints issuer.Constraints, now time.Time) (*issuer.Authority, error) {
	parsed, err := Parse(crt, key, anchors)
	if err != nil {
		return nil, err
	}
	signer, err := New(parsed, constraints)
	if err != nil {
		return nil, err
	}
	notes, err := parsed.usageNotes(constraints.Usages, now)
	if err != nil {
		return nil, err
	}
	info := parsed.Info(now)
	return &issuer.Authority{
		Issuer: signer, SHA256: info.SHA256, Subject: info.Subject,
		NotBefore: info.NotBefore, NotAfter: info.ChainNotAfter, KeyID: info.KeyID, RawSubject: parsed.certificate.RawSubject,
		ChainFor: func(leaf *x509.Certificate) []byte { return parsed.chainFor(leaf, now) },
		Anchors:  info.Anchors, Notes: slices.Concat(notes, parsed.serverNotes(constraints.Usages), info.Notes),
	}, nil
}

// Make implements issuer.KeyPairs.
func (KeyPairs) Make(root issuer.Root, now time.Time) (crt []byte, key credential.Sensitive, err error) {
	return NewSelfSigned(root, now)
}
