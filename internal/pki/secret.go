// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// Format is an additional format in which a certificate and its key are published.
type Format string

// The formats.
const (
	// CombinedPEM is the private key followed by the certificates, in one file: two files that are read one after the other can
	// belong to two rotations.
	CombinedPEM Format = "CombinedPEM"
	// DER is the private key as PKCS#8 and the leaf, each in a file of its own: DER has room for only one of them.
	DER Format = "DER"
)

// Keys returns the keys of the format in the user's Secret.
func (f Format) Keys() []string {
	switch f {
	case CombinedPEM:
		return []string{credential.KeyCombined}
	case DER:
		return []string{credential.KeyPrivateKeyDER, credential.KeyCertificateDER}
	}
	return nil
}

// TLSSecretData returns the data of the user's Secret (type kubernetes.io/tls), built from tls.crt, tls.key and ca.crt of
// the material and the requested formats. It checks nothing: use Lint.
func TLSSecretData(material credential.Material, formats []Format) map[string][]byte {
	data := map[string][]byte{}
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		data[key] = slices.Clone(material[key].Reveal())
	}
	if slices.Contains(formats, CombinedPEM) {
		data[credential.KeyCombined] = slices.Concat(data[credential.KeyPrivateKey], data[credential.KeyCertificate])
	}
	if slices.Contains(formats, DER) {
		data[credential.KeyPrivateKeyDER] = keyDER(data[credential.KeyPrivateKey])
		data[credential.KeyCertificateDER] = leafDER(data[credential.KeyCertificate])
	}
	return data
}

// keyDER returns the first private key as PKCS#8 in DER. What has none stays as it is: the placeholder that replaces a private key
// in the cache.
func keyDER(text []byte) []byte {
	for rest := text; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			return slices.Clone(text)
		}
		if rest = after; !strings.HasSuffix(block.Type, labelPKCS8) {
			continue
		}
		key, err := parseKeyBlock(block)
		if err != nil {
			continue
		}
		if der, err := x509.MarshalPKCS8PrivateKey(key); err == nil {
			return der
		}
	}
}

// leafDER returns the first certificate in DER.
func leafDER(text []byte) []byte {
	block, _ := pem.Decode(text)
	if block == nil {
		return slices.Clone(text)
	}
	return block.Bytes
}

// TLSSecret holds the content of a Secret with a certificate, once it has been found to be complete.
type TLSSecret struct {
	Leaf *x509.Certificate
	// Intermediates follow the leaf; each signed the one before it.
	Intermediates []*x509.Certificate
	// Authorities are the trust anchors.
	Authorities []*x509.Certificate

	key      crypto.Signer
	material credential.Material
}

// Material returns the material that was passed to TLSSecretData.
func (s *TLSSecret) Material() credential.Material { return s.material.Clone() }

// Path returns the path from the leaf up to a trust anchor that applies at the given time, for the names and usages of the
// leaf. ok is false if there is none.
func (s *TLSSecret) Path(now time.Time) (path Path, ok bool) {
	return PathsAbove(s.Leaf, s.Intermediates, s.Authorities).For(s.Leaf, now)
}

// Ceiling returns the earliest expiry of the certificates above the leaf, on the path that applies at now. ok is false if no
// path leads to a trust anchor.
func (s *TLSSecret) Ceiling(now time.Time) (ceiling time.Time, ok bool) {
	path, ok := s.Path(now)
	return path.NotAfter, ok
}

// Verify verifies at now, with Go's verifier, that the leaf chains up to a trust anchor for each of its usages; it also
// checks the name constraints as OpenSSL reads them. A leaf that has expired is verified at its last moment of validity.
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

// top returns the last certificate of the chain.
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

// ParseTLSSecret reads the data of a user's Secret: leaf, chain, trust anchors, and the private key, which must belong to
// the leaf. An error has class Permanent and reason SecretInvalid, and states precisely what is damaged; it shows nothing of
// the key. Time, trust and names are not checked: see Lint and Diff.
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

// badSecret returns an error about the content of a Secret.
func badSecret(format string, args ...any) error {
	return fault.Permanent(fault.SecretInvalid, fmt.Errorf(format, args...))
}
