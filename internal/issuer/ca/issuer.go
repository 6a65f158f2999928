// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// New returns an issuer with an authority and its constraints. It refuses constraints as ValidateConstraints does. The issuer
// keeps no state: it signs a repeated request again, for the same key.
func New(authority *Authority, constraints Constraints) (*Issuer, error) {
	rules, err := compile(constraints)
	if err != nil {
		return nil, err
	}
	return &Issuer{authority: authority, rules: rules}, nil
}

// Issuer signs leaves with an Authority, within Constraints. It is safe for concurrent use.
type Issuer struct {
	authority *Authority
	rules     *rules
}

var (
	_ issuer.Issuer    = (*Issuer)(nil)
	_ issuer.Permitter = (*Issuer)(nil)
	_ issuer.Chainer   = (*Issuer)(nil)
)

// Check implements issuer.Issuer.
func (i *Issuer) Check(_ context.Context, now time.Time) error { return i.authority.Check(now) }

// Issue implements issuer.Issuer. The reasons of its refusals are AuthorityExpired, AuthorityInvalid, IdentityInvalid,
// ConstraintViolated and LifetimeTooLong.
func (i *Issuer) Issue(ctx context.Context, request issuer.Request) (issuer.Chain, error) {
	if err := ctx.Err(); err != nil {
		return issuer.Chain{}, err
	}
	if request.Now.IsZero() {
		return issuer.Chain{}, errors.New("the request has no time of issuance")
	}
	if err := i.authority.Check(request.Now); err != nil {
		return issuer.Chain{}, err
	}
	template, err := i.template(request)
	if err != nil {
		return issuer.Chain{}, err
	}
	csr, err := pki.ParseRequest(request.CSR)
	if err != nil {
		return issuer.Chain{}, err
	}
	path, err := i.authority.pathFor(template, request)
	if err != nil {
		return issuer.Chain{}, err
	}
	leaf, err := i.sign(template, csr, path.Certificates[0])
	if err != nil {
		return issuer.Chain{}, err
	}
	if err := i.Permit(leaf); err != nil {
		return issuer.Chain{}, fmt.Errorf("checking the constraints on the result: %w", err)
	}
	return issuer.Chain{
		Certificates: slices.Concat(pki.EncodeCertificates(leaf), pki.EncodeCertificates(path.Published()...)),
		Authorities:  i.authority.anchorsPEM(path),
	}, nil
}

// Permit implements issuer.Permitter. pki.Lint takes it as Candidate.Permit.
func (i *Issuer) Permit(leaf *x509.Certificate) error {
	shown := pki.IdentityOf(leaf, pki.Habits{Backdate: pki.Backdate})
	usages := make([]issuer.Usage, 0, len(shown.Usages))
	for _, usage := range shown.Usages {
		usages = append(usages, issuer.Usage(usage))
	}
	if err := i.rules.check(shown.Names, usages); err != nil {
		return err
	}
	if until := i.authority.paths.Until(); leaf.NotAfter.After(until) {
		return refused("the certificate expires at %s, after its authority %s at %s",
			pki.Instant(leaf.NotAfter), pki.Describe(i.authority.certificate), pki.Instant(until))
	}
	return i.rules.checkLifetime(shown.Lifetime)
}

// ChainFor implements issuer.Chainer.
func (i *Issuer) ChainFor(leaf *x509.Certificate, now time.Time) []byte {
	path, _ := i.authority.paths.For(leaf, now)
	return pki.EncodeCertificates(path.Published()...)
}

// template returns the certificate without its key and without what depends on the path. It refuses what the constraints do not
// allow.
func (i *Issuer) template(request issuer.Request) (*x509.Certificate, error) {
	names := pki.Names(request.Names)
	if err := names.Validate(); err != nil {
		return nil, err
	}
	names = names.Normalize()
	if err := i.rules.check(names, request.Usages); err != nil {
		return nil, err
	}
	if slices.Contains(request.Usages, issuer.ServerAuth) && !names.HasAlternativeName() {
		return nil, fault.Permanent(fault.IdentityInvalid, errors.New("a server needs a subject alternative name; set dnsNames, ipAddresses or uris"))
	}
	lifetime := request.Lifetime.Truncate(time.Second)
	if lifetime < minimumLeft {
		return nil, fault.Permanent(fault.IdentityInvalid, fmt.Errorf("the lifetime %s is shorter than %s", request.Lifetime, minimumLeft))
	}
	if err := i.rules.checkLifetime(request.Lifetime); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := request.Now.UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               names.Subject(),
		NotBefore:             now.Add(-pki.Backdate),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           extKeyUsages(request.Usages),
		AuthorityKeyId:        i.authority.keyID,
		DNSNames:              names.DNSNames,
		URIs:                  names.URIs,
		IPAddresses:           names.IPAddresses,
		EmailAddresses:        names.EmailAddresses,
	}, nil
}

// sign signs the template with the public key of the request; it uses nothing else of the request.
func (i *Issuer) sign(template *x509.Certificate, csr *x509.CertificateRequest, parent *x509.Certificate) (*x509.Certificate, error) {
	keyID, err := pki.SubjectKeyID(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId = keyID
	// Only a server receives data encrypted with its key, with TLS 1.2 without forward secrecy; with clientAuth alone RFC
	// 5280, section 4.2.1.12 does not allow this usage.
	if _, ok := csr.PublicKey.(*rsa.PublicKey); ok && slices.Contains(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, csr.PublicKey, i.authority.signer)
	if err != nil {
		return nil, fault.Transient(fault.IssuanceFailed, fmt.Errorf("signing the certificate: %w", err))
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Permanent(fault.CertificateInvalid, fmt.Errorf("reading back the signed certificate: %w", err))
	}
	pki.Signed(leaf, parent)
	return leaf, nil
}

// leaves refuses a usage that the extended key usages on the path exclude: every peer would refuse the certificate.
func leaves(path pki.Path, usages []issuer.Usage) error {
	for _, usage := range usages {
		if limiting := path.Limiting(pki.Usage(usage)); limiting != nil {
			return refused("the usage %q cannot be issued: the extended key usage of the authority's certificate %s does not include it; choose another authority, or have that certificate signed again", usage, pki.Describe(limiting))
		}
	}
	return nil
}

func extKeyUsages(usages []issuer.Usage) []x509.ExtKeyUsage {
	var out []x509.ExtKeyUsage
	if slices.Contains(usages, issuer.ClientAuth) {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	if slices.Contains(usages, issuer.ServerAuth) {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	return out
}
