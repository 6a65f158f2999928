// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // see ClassicKeyID
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// KeyAlgorithm is the algorithm and size of a key, as the API spells them.
type KeyAlgorithm string

// The algorithms that NewKey supports.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
	Ed25519   KeyAlgorithm = "Ed25519"
)

const (
	// maxKeyBytes limits a private key or a request before it is parsed. A key of 8192 bits takes about 7 KiB.
	maxKeyBytes = 64 << 10
	// RSA keys with fewer bits are too weak, and crypto/tls refuses keys with more.
	minRSABits, maxRSABits = 2048, 8192
)

// KeyAlgorithms returns all algorithms that NewKey supports, in a fixed order.
func KeyAlgorithms() []KeyAlgorithm {
	return []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096, Ed25519}
}

// NewKey creates a private key, as PKCS#8 in PEM (RFC 5208, RFC 7468).
func NewKey(algorithm KeyAlgorithm) (credential.Sensitive, error) {
	key, err := generateKey(algorithm)
	if err != nil {
		return credential.Sensitive{}, err
	}
	return encodeKey(key)
}

func encodeKey(key crypto.Signer) (credential.Sensitive, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return credential.Sensitive{}, errors.New("encoding a new private key as PKCS#8 failed")
	}
	return credential.NewSensitive(pem.EncodeToMemory(&pem.Block{Type: labelPKCS8, Bytes: der})), nil
}

func generateKey(algorithm KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fault.Permanent(fault.IdentityInvalid,
		fmt.Errorf("unknown key algorithm %q; use one of %v", algorithm, KeyAlgorithms()))
}

// ParseKey reads one private key in PEM: PKCS#8, PKCS#1 or SEC1 (as openssl writes it, with or without the block of
// parameters). Text around the key and a byte order mark are skipped. It refuses more than 64 KiB, another block after the
// key, keys with a passphrase, and weak keys. The errors show nothing of the key.
func ParseKey(data []byte) (crypto.Signer, error) {
	blocks, err := decodePEM(data, pemRules{maxBytes: maxKeyBytes, maxBlocks: 2, lenient: true})
	if err != nil {
		return nil, fmt.Errorf("the private key %w", err)
	}
	if len(blocks) == 2 && blocks[0].Type == labelECParameters {
		blocks = blocks[1:]
	}
	if len(blocks) != 1 {
		return nil, errors.New("the private key is followed by another PEM block; put only the key there")
	}
	key, err := parseKeyBlock(blocks[0])
	if err != nil {
		return nil, err
	}
	if err := CheckPublicKey(key.Public()); err != nil {
		return nil, fmt.Errorf("the private key: %w", err)
	}
	return key, nil
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Type == labelEncrypted || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is encrypted; store it without a passphrase (openssl pkey -in encrypted.key -out tls.key)")
	}
	var key any
	var err error
	var format string
	switch block.Type {
	case labelPKCS8:
		format = "PKCS#8"
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case labelPKCS1:
		format = "PKCS#1"
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case labelSEC1:
		format = "SEC1"
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case labelCertificate:
		return nil, errors.New("there is a certificate instead of the private key")
	default:
		return nil, errors.New("the PEM block is not a private key (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)")
	}
	if err != nil {
		if err := unsupportedKeyBlock(block); err != nil {
			return nil, fmt.Errorf("the file %w", err)
		}
		// The cause is left out on purpose: it comes from a decoder that has seen the key.
		return nil, fmt.Errorf("the private key is damaged: it cannot be decoded as %s", format)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign; use ECDSA, RSA or Ed25519")
	}
	return signer, nil
}

// CheckPublicKey refuses keys that are too weak or of a type that TLS peers do not accept.
func CheckPublicKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits is refused; use %d to %d bits", bits, minRSABits, maxRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("an ECDSA key on the curve %s is refused; use P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("the key is neither ECDSA, RSA nor Ed25519")
}

// AlgorithmOf returns the algorithm and size of a public key, as a KeyAlgorithm constant if there is one.
func AlgorithmOf(public crypto.PublicKey) KeyAlgorithm {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return KeyAlgorithm("RSA-" + strconv.Itoa(key.N.BitLen()))
	case *ecdsa.PublicKey:
		return KeyAlgorithm("ECDSA-P" + strconv.Itoa(key.Curve.Params().BitSize))
	case ed25519.PublicKey:
		return Ed25519
	}
	return "unknown"
}

// SubjectKeyID derives the key identifier of a public key: the leftmost 160 bits of the SHA-256 hash of the subject
// public key (RFC 7093, section 2, method 1).
func SubjectKeyID(public crypto.PublicKey) ([]byte, error) {
	bits, err := keyBits(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(bits)
	return sum[:20], nil
}

// ClassicKeyID derives the key identifier that OpenSSL writes for subjectKeyIdentifier=hash: the SHA-1 hash of the subject
// public key (RFC 5280, section 4.2.1.2, method 1). A certificate without an identifier gets this one when it is signed
// again.
func ClassicKeyID(public crypto.PublicKey) ([]byte, error) {
	bits, err := keyBits(public)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(bits) //nolint:gosec // the standard's identifier of a key, which protects nothing
	return sum[:], nil
}

// keyBits returns the bits of a public key, without its algorithm.
func keyBits(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("decoding the public key: %w", err)
	}
	return info.Key.Bytes, nil
}

// samePublicKey reports whether a and b are the same key.
func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
