// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// Format is an additional form in which a certificate and its key are published.
type Format string

// CombinedPEM is the private key followed by the certificates, in one file: two files read one after the other can
// belong to two rotations.
const CombinedPEM Format = "CombinedPEM"

// TLSSecretData makes the data of the user's Secret (type kubernetes.io/tls) out of the keys tls.crt, tls.key and ca.crt
// of the material, and of the formats asked for. It checks nothing: that is what Lint is for.
func TLSSecretData(material credential.Material, formats []Format) map[string][]byte {
	data := map[string][]byte{}
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		data[key] = slices.Clone(material[key].Reveal())
	}
	if slices.Contains(formats, CombinedPEM) {
		data[credential.KeyCombined] = slices.Concat(data[credential.KeyPrivateKey], data[credential.KeyCertificate])
	}
	return data
}

// TLSSecret is what a Secret with a certificate holds, once it has been found to be whole.
type TLSSecret struct {
	Leaf *x509.Certificate
	// Intermediates follow the leaf, in the order in which each signed the one before.
	Intermediates []*x509.Certificate
	// Authorities are the trust anchors.
	Authorities []*x509.Certificate

	key      crypto.Signer
	material credential.Material
}

// Material gives back what TLSSecretData was made of.
func (s *TLSSecret) Material() credential.Material { return s.material.Clone() }

// Path is the way from the leaf up to a trust anchor that counts at that instant, for the names and usages of the leaf. ok is
// false where there is none.
func (s *TLSSecret) Path(now time.Time) (path Path, ok bool) {
	return pathsAbove(s.Leaf, s.Intermediates, s.Authorities).For(s.Leaf, now)
}

// Ceiling is the first instant at which a certificate above the leaf expires, on the path that counts at the instant now. ok
// is false where no path leads to a trust anchor.
func (s *TLSSecret) Ceiling(now time.Time) (ceiling time.Time, ok bool) {
	path, ok := s.Path(now)
	return path.NotAfter, ok
}

// Verify has Go verify the leaf up to a trust anchor, for each of its usages, and the name constraints as OpenSSL reads them,
// at the instant now; a leaf that has expired, at its last instant.
func (s *TLSSecret) Verify(now time.Time) error {
	if len(s.Authorities) == 0 {
		return badSecret("there is no trust anchor in %s", credential.KeyAuthority)
	}
	path, ok := s.Path(now)
	if !ok {
		return badSecret("no path leads from %s to a certificate in %s", Describe(s.Leaf), credential.KeyAuthority)
	}
	if err := path.admits(s.Leaf); err != nil {
		return badSecret("%w", err)
	}
	if now.After(s.Leaf.NotAfter) {
		now = s.Leaf.NotAfter
	}
	for _, usage := range s.Leaf.ExtKeyUsage {
		_, err := s.Leaf.Verify(x509.VerifyOptions{Roots: s.roots(), Intermediates: s.pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			return badSecret("%s does not verify: %w", Describe(s.Leaf), err)
		}
	}
	return nil
}

// top is the last certificate of the chain.
func (s *TLSSecret) top() *x509.Certificate {
	if len(s.Intermediates) > 0 {
		return s.Intermediates[len(s.Intermediates)-1]
	}
	return s.Leaf
}

func (s *TLSSecret) roots() *x509.CertPool { return poolOf(s.Authorities) }

func (s *TLSSecret) pool() *x509.CertPool { return poolOf(s.Intermediates) }

func poolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool
}

// ParseTLSSecret reads the data of a user's Secret: leaf, chain, trust anchors, and the private key, which must be that of
// the leaf. An error has class Permanent and reason SecretInvalid, and says precisely what is damaged; it shows nothing of
// the key. Time, trust and names are not looked at: see Lint and Diff.
func ParseTLSSecret(data map[string][]byte) (*TLSSecret, error) {
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		if len(data[key]) == 0 {
			return nil, badSecret("the key %s is missing or empty", key)
		}
	}
	chain, err := ParseCertificates(data[credential.KeyCertificate])
	if err != nil {
		return nil, badSecret("%s %w", credential.KeyCertificate, err)
	}
	authorities, err := ParseCertificates(data[credential.KeyAuthority])
	if err != nil {
		return nil, badSecret("%s %w", credential.KeyAuthority, err)
	}
	key, err := ParseKey(data[credential.KeyPrivateKey])
	if err != nil {
		return nil, badSecret("%s: %w", credential.KeyPrivateKey, err)
	}
	if !samePublicKey(key.Public(), chain[0].PublicKey) {
		return nil, badSecret("%s is not the key of the first certificate in %s (%s)", credential.KeyPrivateKey, credential.KeyCertificate, Describe(chain[0]))
	}
	for i := 1; i < len(chain); i++ {
		if err := checkSignature(chain[i-1], chain[i]); err != nil {
			return nil, badSecret("certificate %d in %s (%s) has not signed the one before it: %w", i+1, credential.KeyCertificate, Describe(chain[i]), err)
		}
	}
	material := credential.Material{}
	for _, name := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		material[name] = credential.NewSensitive(data[name])
	}
	return &TLSSecret{Leaf: chain[0], Intermediates: chain[1:], Authorities: authorities, key: key, material: material}, nil
}

// badSecret is a finding about what a Secret holds.
func badSecret(format string, args ...any) error {
	return fault.Permanent(fault.SecretInvalid, fmt.Errorf(format, args...))
}
