// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

// Format is a format of keystores, as the API spells it.
type Format string

// The formats.
const (
	PKCS12 Format = "PKCS12"
	JKS    Format = "JKS"
)

// Profile is the set of algorithms of a PKCS#12 file, as the API spells it.
type Profile string

// The profiles. JKS has only one set of algorithms.
const (
	// Modern2026 uses PBES2 with AES-256, and PBMAC1 with HMAC-SHA-256 (RFC 9579). It needs a recent reader.
	Modern2026 Profile = "Modern2026"
	// Modern2023 uses PBES2 with AES-256, and a MAC with SHA-256 and the key derivation of PKCS#12.
	Modern2023 Profile = "Modern2023"
	// LegacyDES uses Triple DES and SHA-1, which only old readers need.
	LegacyDES Profile = "LegacyDES"
)

// DefaultProfile and DefaultAlias apply where nothing else is requested.
const (
	DefaultProfile = Modern2023
	DefaultAlias   = "certificate"
)

// The names of the files.
const (
	FileKeyPKCS12   = "keystore.p12"
	FileTrustPKCS12 = "truststore.p12"
	FileKeyJKS      = "keystore.jks"
	FileTrustJKS    = "truststore.jks"
)

// Files returns the names of the files in a format: the one with the private key, and the one with the trust anchors.
func (f Format) Files() []string {
	switch f {
	case PKCS12:
		return []string{FileKeyPKCS12, FileTrustPKCS12}
	case JKS:
		return []string{FileKeyJKS, FileTrustJKS}
	}
	return nil
}

// Settings are what a user chooses. An empty Alias or Profile means the default.
type Settings struct {
	Formats []Format
	// Alias is the name of the entry with the private key in a JKS file. That in a PKCS#12 file has none, and Java calls it 1.
	Alias string
	// Profile is used for PKCS#12 only.
	Profile Profile
	// Password encrypts each file, and the private key in it. It has passed CheckPassword.
	Password credential.Sensitive
}

func (s Settings) alias() string {
	if s.Alias == "" {
		return DefaultAlias
	}
	return s.Alias
}

func (s Settings) profile() Profile {
	if s.Profile == "" {
		return DefaultProfile
	}
	return s.Profile
}

// Files returns the names of the files of all formats, sorted.
func (s Settings) Files() []string {
	var out []string
	for _, format := range s.Formats {
		out = append(out, format.Files()...)
	}
	slices.Sort(out)
	return out
}

// Encode returns the files by name, for tls.crt, tls.key and ca.crt in PEM. The file with the private key holds the leaf and its
// chain, without the trust anchors, which are in the other file. The errors show nothing of the key or the password.
func (s Settings) Encode(data map[string][]byte) (map[string][]byte, error) {
	chain, err := pki.ParseCertificates(data[credential.KeyCertificate])
	if err != nil {
		return nil, fmt.Errorf("%s %w", credential.KeyCertificate, err)
	}
	anchors, err := pki.ParseCertificates(data[credential.KeyAuthority])
	if err != nil {
		return nil, fmt.Errorf("%s %w", credential.KeyAuthority, err)
	}
	key, err := pki.ParseKey(data[credential.KeyPrivateKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", credential.KeyPrivateKey, err)
	}
	out := map[string][]byte{}
	for _, format := range s.Formats {
		names := format.Files()
		if out[names[0]], err = s.keyStore(format, key, chain); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", names[0], err)
		}
		if out[names[1]], err = TrustStore(format, anchors, s.profile(), s.Password); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", names[1], err)
		}
	}
	return out, nil
}

// keyStore returns the file with the private key. The leaf comes first in chain.
func (s Settings) keyStore(format Format, key crypto.Signer, chain []*x509.Certificate) ([]byte, error) {
	switch format {
	case PKCS12:
		encoder, err := encoderOf(s.profile())
		if err != nil {
			return nil, err
		}
		return encoder.Encode(key, chain[0], chain[1:], string(s.Password.Reveal()))
	case JKS:
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, errors.New("the private key cannot be encoded as PKCS#8")
		}
		entry := jks.PrivateKeyEntry{CreationTime: chain[0].NotBefore, PrivateKey: der}
		for _, certificate := range chain {
			entry.CertificateChain = append(entry.CertificateChain, javaCertificate(certificate))
		}
		store := jks.New()
		if err := store.SetPrivateKeyEntry(s.alias(), entry, s.Password.Reveal()); err != nil {
			return nil, fmt.Errorf("adding the private key: %w", err)
		}
		return stored(store, s.Password)
	}
	return nil, fmt.Errorf("unknown format %q", format)
}

// TrustStore returns a file with trust anchors, and without a private key. Their aliases are ca, ca-2, ca-3 and so on, in order.
func TrustStore(format Format, anchors []*x509.Certificate, profile Profile, password credential.Sensitive) ([]byte, error) {
	switch format {
	case PKCS12:
		encoder, err := encoderOf(profile)
		if err != nil {
			return nil, err
		}
		entries := make([]pkcs12.TrustStoreEntry, 0, len(anchors))
		for i, anchor := range anchors {
			entries = append(entries, pkcs12.TrustStoreEntry{Cert: anchor, FriendlyName: anchorAlias(i)})
		}
		return encoder.EncodeTrustStoreEntries(entries, string(password.Reveal()))
	case JKS:
		store := jks.New(jks.WithOrderedAliases())
		for i, anchor := range anchors {
			entry := jks.TrustedCertificateEntry{CreationTime: anchor.NotBefore, Certificate: javaCertificate(anchor)}
			if err := store.SetTrustedCertificateEntry(anchorAlias(i), entry); err != nil {
				return nil, fmt.Errorf("adding trust anchor %d: %w", i+1, err)
			}
		}
		return stored(store, password)
	}
	return nil, fmt.Errorf("unknown format %q", format)
}

func anchorAlias(place int) string {
	if place == 0 {
		return "ca"
	}
	return fmt.Sprintf("ca-%d", place+1)
}

func encoderOf(profile Profile) (*pkcs12.Encoder, error) {
	switch profile {
	case Modern2026:
		return pkcs12.Modern2026, nil
	case Modern2023, "":
		return pkcs12.Modern2023, nil
	case LegacyDES:
		return pkcs12.LegacyDES, nil
	}
	return nil, fmt.Errorf("unknown profile %q", profile)
}

func javaCertificate(certificate *x509.Certificate) jks.Certificate {
	return jks.Certificate{Type: "X509", Content: slices.Clone(certificate.Raw)}
}

func stored(store jks.KeyStore, password credential.Sensitive) ([]byte, error) {
	var out bytes.Buffer
	if err := store.Store(&out, password.Reveal()); err != nil {
		return nil, fmt.Errorf("writing the keystore: %w", err)
	}
	return out.Bytes(), nil
}
