// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	"k8s.io/utils/clock"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
)

// Options are everything that the controllers need of the outside.
type Options struct {
	// OperatorNamespace holds the key pairs of cluster-wide authorities.
	OperatorNamespace string
	// Version of this build, for the metrics.
	Version string
	// Workers per controller.
	Workers int
	// Clock is the only clock.
	Clock clock.PassiveClock
	// APIClock compares our clock with that of the API server.
	APIClock *APIClock
	// AllowLoopback lets rekey dial databases on loopback addresses.
	AllowLoopback bool
	// Backends by engine.
	Backends map[v1alpha1.Engine]backend.Backend
	// Authorities makes issuers out of key pairs.
	Authorities AuthorityMaker
}

// Authority is a certificate authority that can sign, and what a status shows of it.
type Authority struct {
	issuer.Issuer
	// SHA256, Subject and NotBefore are those of the certificate that signs; NotAfter is the earliest of its chain.
	SHA256, Subject     string
	NotBefore, NotAfter time.Time
	// KeyID is the subject key identifier: the authority key identifier of every leaf.
	KeyID []byte
	// Anchors are the trust anchors, PEM.
	Anchors []byte
}

// AuthorityMaker turns key pairs into authorities.
type AuthorityMaker interface {
	// Parse checks a key pair (PEM; anchors may be empty) and gives the authority that it makes. Every error has class
	// Permanent.
	Parse(crt, key, anchors []byte, constraints v1alpha1.Constraints) (*Authority, error)
	// Make makes the key pair of a managed authority.
	Make(spec v1alpha1.ManagedAuthority, now time.Time) (crt []byte, key credential.Sensitive, err error)
}
