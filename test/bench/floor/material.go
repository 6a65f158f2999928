// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// material is one certificate and its key, the same for every Secret.
type material struct {
	data           map[string][]byte
	serial, sha256 string
	notAfter       time.Time
}

func newMaterial() (*material, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	notBefore, notAfter := time.Now(), time.Now().Add(24*time.Hour)
	root := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Fleet CA"}, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "app-00000"}, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		SubjectKeyId: make([]byte, 20), BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example.internal", Path: "/ns/fleet-000/sa/app-00000"}},
	}
	authority, err := x509.CreateCertificate(rand.Reader, root, root, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	if root, err = x509.ParseCertificate(authority); err != nil {
		return nil, err
	}
	certificate, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(certificate)
	return &material{
		serial: fmt.Sprintf("%X", leaf.SerialNumber), sha256: hex.EncodeToString(sum[:]), notAfter: notAfter,
		data: map[string][]byte{"tls.crt": block("CERTIFICATE", certificate), "tls.key": block("PRIVATE KEY", private), "ca.crt": block("CERTIFICATE", authority)},
	}, nil
}

func serial() *big.Int {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes) // It never fails.
	bytes[0] |= 1
	return new(big.Int).SetBytes(bytes)
}

func block(kind string, bytes []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
}
