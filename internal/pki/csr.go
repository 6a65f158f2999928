// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// NewKeyAndRequest creates a private key with NewKey and the certificate request for it with NewRequest.
func NewKeyAndRequest(algorithm KeyAlgorithm, names Names) (key credential.Sensitive, request []byte, err error) {
	signer, err := generateKey(algorithm)
	if err != nil {
		return credential.Sensitive{}, nil, err
	}
	if key, err = encodeKey(signer); err != nil {
		return credential.Sensitive{}, nil, err
	}
	request, err = requestOf(signer, names)
	return key, request, err
}

// NewRequest creates a certificate request (PKCS#10, RFC 2986, PEM) for names, signed with the private key.
func NewRequest(key credential.Sensitive, names Names) ([]byte, error) {
	signer, err := ParseKey(key.Reveal())
	if err != nil {
		return nil, err
	}
	return requestOf(signer, names)
}

func requestOf(signer crypto.Signer, names Names) ([]byte, error) {
	if err := names.Validate(); err != nil {
		return nil, err
	}
	names = names.Normalize()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:        names.Subject(),
		DNSNames:       names.DNSNames,
		URIs:           names.URIs,
		IPAddresses:    names.IPAddresses,
		EmailAddresses: names.EmailAddresses,
	}, signer)
	if err != nil {
		return nil, fmt.Errorf("creating a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: labelRequest, Bytes: der}), nil
}

// ParseRequest reads one certificate request in PEM, of at most 64 KiB, and checks that it is signed with its own key and
// that the key is strong enough to be certified.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	blocks, err := decodePEM(data, pemRules{maxBytes: maxKeyBytes, maxBlocks: 1})
	if err != nil {
		return nil, badIdentity("the certificate request %w", err)
	}
	if blocks[0].Type != labelRequest {
		return nil, badIdentity("the PEM block is not a certificate request (CERTIFICATE REQUEST)")
	}
	request, err := x509.ParseCertificateRequest(blocks[0].Bytes)
	if err != nil {
		return nil, badIdentity("parsing the certificate request: %w", err)
	}
	if err := CheckPublicKey(request.PublicKey); err != nil {
		return nil, badIdentity("the certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, badIdentity("the certificate request is not signed by its own key: %w", err)
	}
	return request, nil
}

// badIdentity returns an error about an identity that is to be certified.
func badIdentity(format string, args ...any) error {
	return fault.Permanent(fault.IdentityInvalid, fmt.Errorf(format, args...))
}
