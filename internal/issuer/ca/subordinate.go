// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

var _ issuer.Superior = (*Issuer)(nil)

// Admit implements issuer.Superior. The reasons of its refusals are AuthorityExpired, AuthorityInvalid, ConstraintViolated and
// LifetimeTooLong.
func (i *Issuer) Admit(ctx context.Context, request issuer.Subordinate) error {
	_, _, err := i.admitted(ctx, request)
	return err
}

// admitted returns the certificate that the request asks for, without key and serial number, and the path above it.
func (i *Issuer) admitted(ctx context.Context, request issuer.Subordinate) (*x509.Certificate, pki.Path, error) {
	if err := ctx.Err(); err != nil {
		return nil, pki.Path{}, err
	}
	if request.Now.IsZero() {
		return nil, pki.Path{}, errors.New("the request has no time of issuance")
	}
	if err := i.authority.Check(request.Now); err != nil {
		return nil, pki.Path{}, err
	}
	permitted, err := i.admit(request)
	if err != nil {
		return nil, pki.Path{}, err
	}
	template := authorityTemplate(request.CommonName, request.PathLength, request.Now)
	template.NotAfter = request.Now.UTC().Truncate(time.Second).Add(request.Lifetime.Truncate(time.Second))
	template.AuthorityKeyId = i.authority.keyID
	template.ExtKeyUsage = extKeyUsages(i.rules.Usages)
	permitted.write(template)
	path, err := i.authority.pathForAuthority(template, i.rules.Usages, request.Now)
	if err != nil {
		return nil, pki.Path{}, err
	}
	if err := path.Admits(permitted.sample(template.RawSubject)); err != nil {
		return nil, pki.Path{}, refused("the certificate of the new authority would permit more than those above it: %w, or narrow constraints, or managed.nameConstraints in a new authority", err)
	}
	for _, above := range path.Certificates {
		exclude(template, above)
	}
	return template, path, nil
}

// SignAuthority implements issuer.Superior.
func (i *Issuer) SignAuthority(ctx context.Context, request issuer.Subordinate) ([]byte, error) {
	template, path, err := i.admitted(ctx, request)
	if err != nil {
		return nil, err
	}
	csr, err := pki.ParseRequest(request.CSR)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	if template.SubjectKeyId, err = pki.SubjectKeyID(csr.PublicKey); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, path.Certificates[0], csr.PublicKey, i.authority.signer)
	if err != nil {
		return nil, fault.Transient(fault.IssuanceFailed, fmt.Errorf("signing the certificate of the authority: %w", err))
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, invalid("reading back the certificate of the authority: %w", err)
	}
	pki.Signed(certificate, path.Certificates[0])
	return pki.EncodeCertificates(append([]*x509.Certificate{certificate}, path.Certificates...)...), nil
}

// admit refuses an authority that the constraints do not allow, and returns the names that its certificate is to permit.
func (i *Issuer) admit(request issuer.Subordinate) (subtrees, error) {
	signer, limits := pki.Describe(i.authority.certificate), i.rules.Subordinates
	switch {
	case limits == nil:
		return subtrees{}, refused("%s signs no authorities: its constraints.subordinates is absent; ask its owner to set it, or create an authority without managed.signedBy", signer)
	case len(i.rules.Usages) == 0:
		return subtrees{}, refused("constraints.usages of %s is empty, and a certificate without extended key usages would allow all of them: have its owner list usages", signer)
	case request.PathLength > limits.MaximumPathLength:
		return subtrees{}, refused("managed.pathLength %d is above constraints.subordinates.maximumPathLength of %s, which is %d: delete this authority, and create it with a lower one", request.PathLength, signer, limits.MaximumPathLength)
	case limits.MaxLifetime > 0 && request.Lifetime > limits.MaxLifetime:
		return subtrees{}, fault.Permanent(fault.LifetimeTooLong, fmt.Errorf("managed.lifetime %s is longer than constraints.subordinates.maxLifetime of %s, which is %s: delete this authority, and create it with a shorter one", request.Lifetime, signer, limits.MaxLifetime))
	case request.Lifetime < minimumLeft:
		return subtrees{}, invalid("managed.lifetime %s is shorter than %s", request.Lifetime, minimumLeft)
	}
	names := pki.Names{CommonName: request.CommonName}
	if err := names.Validate(); err != nil {
		return subtrees{}, invalid("the authority's %w", err)
	}
	allow, err := i.rules.subtrees()
	if err != nil || request.Names == nil {
		return allow, err
	}
	own, err := subtreesOf(*request.Names)
	if err != nil {
		return subtrees{}, err
	}
	return own.within(allow, signer)
}

// pathForAuthority returns the path for an authority below this one, and shortens its certificate if the path expires earlier.
func (a *Authority) pathForAuthority(template *x509.Certificate, usages []issuer.Usage, now time.Time) (pki.Path, error) {
	template.RawSubject = subjectOf(template)
	roomy := slices.DeleteFunc(slices.Clone(a.paths), func(path pki.Path) bool { return path.Room() <= template.MaxPathLen })
	path, ok := roomy.For(template, now)
	if !ok {
		narrow := a.path(now)
		return pki.Path{}, refused("managed.pathLength %d needs a path length of at least %d in the certificate of the authority that signs it, but %s leaves room for %d authorities below it: have an authority with a larger path length sign it",
			template.MaxPathLen, template.MaxPathLen+1, pki.Describe(narrow.Certificates[0]), narrow.Room())
	}
	if err := checkPath(path, now); err != nil {
		return pki.Path{}, err
	}
	if err := leaves(path, usages); err != nil {
		return pki.Path{}, err
	}
	for _, above := range path.Certificates {
		if strings.EqualFold(above.Subject.String(), template.Subject.String()) {
			return pki.Path{}, refused("managed.commonName %q is also the name of an authority above it, %s: delete this authority, and create it with another", template.Subject.CommonName, pki.Describe(above))
		}
	}
	if template.NotAfter.After(path.NotAfter) {
		template.NotAfter = path.NotAfter
	}
	return path, nil
}

// newSubordinate creates the key of an authority, and has another one sign its certificate. It returns the certificate with those
// above it up to the trust anchor, PEM, the trust anchor, PEM, and the key.
func newSubordinate(ctx context.Context, by issuer.Issuer, wanted managedSettings, now time.Time) (crt, anchor []byte, key credential.Sensitive, err error) {
	superior, ok := by.(issuer.Superior)
	if !ok {
		return nil, nil, key, refused("the issuer that managed.signedBy names cannot sign authorities: create the authority with another")
	}
	request := issuer.Subordinate{
		CommonName: wanted.CommonName, Lifetime: wanted.Lifetime.Duration, PathLength: wanted.PathLength, Names: wanted.names(), Now: now,
	}
	if err := superior.Admit(ctx, request); err != nil {
		return nil, nil, key, err
	}
	if key, request.CSR, err = pki.NewKeyAndRequest(pki.KeyAlgorithm(wanted.KeyAlgorithm), pki.Names{CommonName: wanted.CommonName}); err != nil {
		return nil, nil, key, invalid("creating the key of the authority: %w", err)
	}
	if crt, err = superior.SignAuthority(ctx, request); err != nil {
		return nil, nil, key, err
	}
	// What cannot be read back as an authority is not created: its key would be recorded permanently.
	parsed, err := Parse(crt, key.Reveal(), nil)
	if err != nil {
		return nil, nil, key, err
	}
	return crt, pki.EncodeCertificates(parsed.path(now).Anchor()), key, nil
}
