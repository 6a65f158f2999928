// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lateissuer is an issuer that exists in tests only. It shows that the contract works for an issuer that is as unlike rekey's
// own authority as the contract allows: it answers later, backdates by 30 seconds, adds a key usage, signs with two keys in turn,
// needs a token instead of a key pair, and creates no Secret.
//
// The tests register it for the member keyPair of the union. A member of its own would need a field in the Go types of the API, which
// would then be part of the product; the API's own tests prove that the API server accepts a member. The tests here prove everything
// behind the union: the map, the Secret that a user provides, the controllers, the ledger of the candidate, and what is published.
package lateissuer

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/pki"
)

const (
	// Backdate is how long before its time of issue a certificate becomes valid.
	Backdate = 30 * time.Second
	// Wait is how long a caller has to wait before it repeats a request.
	Wait = 30 * time.Second
	// KeyToken is the key of the Secret.
	KeyToken = "token"
)

// Server is the remote system. It outlives every process that calls it.
type Server struct {
	anchors   []byte
	expires   time.Time
	signers   []signer
	mu        sync.Mutex
	held      bool
	down      bool
	denies    bool
	errs      bool
	ahead     time.Duration
	wait      time.Duration
	requests  map[string]*request
	signed    int
	questions int
}

// signer is one of the live intermediates.
type signer struct {
	certificate *x509.Certificate
	key         crypto.Signer
	authority   *ca.Authority
}

type request struct {
	csr   []byte
	chain issuer.Chain
	asked int
	// denied requests are never signed.
	denied bool
}

// New returns a server whose chain expires a year after now.
func New(now time.Time) (*Server, error) {
	s := &Server{wait: Wait, requests: map[string]*request{}, expires: now.UTC().Truncate(time.Second).Add(365 * 24 * time.Hour)}
	root, rootKey, err := s.certify("Late root", now, nil, nil)
	if err != nil {
		return nil, err
	}
	s.anchors = pki.EncodeCertificates(root)
	for _, name := range []string{"Late intermediate one", "Late intermediate two"} {
		certificate, key, err := s.certify(name, now, root, rootKey)
		if err != nil {
			return nil, err
		}
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		authority, err := ca.Parse(pki.EncodeCertificates(certificate, root), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), s.anchors)
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, signer{certificate, key, authority})
	}
	return s, nil
}

// certify creates an authority below another, or a root.
func (s *Server) certify(name string, now time.Time, above *x509.Certificate, aboveKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	encoded, err := pki.NewKey(pki.ECDSAP256)
	if err != nil {
		return nil, nil, err
	}
	key, err := pki.ParseKey(encoded.Reveal())
	if err != nil {
		return nil, nil, err
	}
	id, err := pki.SubjectKeyID(key.Public())
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: s.expires,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id,
	}
	if above == nil {
		above, aboveKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), aboveKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}

// Hold makes the server answer no request until it is released.
func (s *Server) Hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

// SetDenies sets whether the server denies each request that it has not answered yet. A denied request stays denied.
func (s *Server) SetDenies(denies bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denies = denies
}

// SetErrs sets whether the server signs certificates with usages other than those requested.
func (s *Server) SetErrs(errs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = errs
}

// SetDown sets whether the server is unreachable.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// SetAhead sets how far the server's clock is ahead of that of its clients.
func (s *Server) SetAhead(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// SetWait sets how long the server asks its clients to wait before they repeat a request: Wait by default.
func (s *Server) SetWait(wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wait = wait
}

// Requests returns how many different requests the server got.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// Questions returns how often the server was asked.
func (s *Server) Questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.questions
}

// Opener opens authorities at the server.
type Opener struct {
	Server *Server
	// OneKey makes the authorities sign with one key, which is in their profile, instead of two in turn.
	OneKey bool
}

var _ issuer.Opener = Opener{}

// Keys implements issuer.Opener.
func (Opener) Keys() []issuer.Key { return []issuer.Key{{Name: KeyToken}} }

// Open implements issuer.Opener.
func (o Opener) Open(_ context.Context, config issuer.Config) (*issuer.Authority, error) {
	if config.Secret[KeyToken].IsEmpty() {
		return nil, fault.Permanent(fault.AuthorityInvalid, errors.New("the token is missing"))
	}
	var keyID []byte
	if o.OneKey {
		keyID = o.Server.signers[0].certificate.SubjectKeyId
	}
	return &issuer.Authority{
		Issuer: session{o.Server, config.Constraints, o.OneKey},
		Info:   issuer.Info{SignsWith: "the token", Subject: "Late issuer", NotAfter: o.Server.expires},
		Profile: issuer.Profile{
			Backdate: Backdate, MayAdd: issuer.Usages{Key: x509.KeyUsageKeyEncipherment}, KeyID: keyID, Asynchronous: true,
		},
		Anchors: o.Server.anchors,
	}, nil
}

type session struct {
	*Server
	constraints issuer.Constraints
	oneKey      bool
}

// Check implements issuer.Issuer.
func (s session) Check(_ context.Context, now time.Time) error {
	return s.signers[0].authority.Check(now)
}

// Issue implements issuer.Issuer. It refuses immediately, and issues at the earliest when the request is repeated.
func (s session) Issue(ctx context.Context, r issuer.Request) (issuer.Chain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return issuer.Chain{}, fault.Transient(fault.IssuanceFailed, errors.New("the issuer is unreachable"))
	}
	s.questions++
	known := s.requests[r.ID]
	if known == nil {
		if _, err := s.sign(ctx, r); err != nil {
			return issuer.Chain{}, err
		}
		known = &request{csr: slices.Clone(r.CSR)}
		s.requests[r.ID] = known
	}
	known.asked++
	switch {
	case !slices.Equal(known.csr, r.CSR):
		return issuer.Chain{}, fault.Permanent(fault.IssuanceFailed, fmt.Errorf("request %s was for another key", r.ID))
	case len(known.chain.Certificates) > 0:
		return known.chain, nil
	case known.denied || s.denies:
		known.denied = true
		return issuer.Chain{}, fault.Permanent(fault.IssuanceFailed, fmt.Errorf("request %s was denied", r.ID))
	case s.held || known.asked == 1:
		return issuer.Chain{}, fault.Pending(s.wait, fmt.Errorf("request %s waits for approval", r.ID))
	}
	chain, err := s.sign(ctx, r)
	if err == nil {
		s.signed++
		known.chain = chain
	}
	return chain, err
}

// sign signs with the intermediates in turn. rekey's own authority decides what may be signed; the habits are this issuer's.
func (s session) sign(ctx context.Context, r issuer.Request) (issuer.Chain, error) {
	above := s.signers[s.signed%len(s.signers)]
	if s.oneKey {
		above = s.signers[0]
	}
	model, err := ca.New(above.authority, s.constraints)
	if err != nil {
		return issuer.Chain{}, err
	}
	chain, err := model.Issue(ctx, r)
	if err != nil {
		return issuer.Chain{}, err
	}
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		return issuer.Chain{}, err
	}
	template := *certificates[0]
	template.NotBefore = r.Now.UTC().Truncate(time.Second).Add(s.ahead - Backdate)
	template.NotAfter = template.NotAfter.Add(s.ahead)
	template.KeyUsage |= x509.KeyUsageKeyEncipherment
	if s.errs {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, above.certificate, template.PublicKey, above.key)
	if err != nil {
		return issuer.Chain{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return issuer.Chain{}, err
	}
	return issuer.Chain{Certificates: pki.EncodeCertificates(leaf, above.certificate), Authorities: s.anchors}, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] |= 0x80
	return new(big.Int).SetBytes(b)
}

// Secret is the content of the Secret that a user provides.
func Secret() credential.Material {
	return credential.Material{KeyToken: credential.SensitiveString("late-token")}
}
