// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/sha256"
	"crypto/x509"

	"github.com/rekey/rekey/internal/cache"
)

// signatures caches the signatures that were found to be valid: the same signature is checked many times while a certificate
// is issued, and that check is most of the cost of reading a certificate. Invalid signatures are not cached. Under keys of their
// own, it also holds the roots that selfSignature accepts. The cache has
// room for a fleet that is renewed at once, since each certificate is checked again later.
var signatures = cache.New[struct{}](8192)

// checkSignature is child.CheckSignatureFrom(parent), called once for the same two certificates.
func checkSignature(child, parent *x509.Certificate) error {
	key := bothOf(child, parent)
	if _, ok := signatures.Get(key); ok {
		return nil
	}
	if err := child.CheckSignatureFrom(parent); err != nil {
		return err
	}
	signatures.Put(key, struct{}{})
	return nil
}

// bothOf returns a cache key made of every byte of both certificates.
func bothOf(child, parent *x509.Certificate) cache.Key {
	a, b := sha256.Sum256(child.Raw), sha256.Sum256(parent.Raw)
	return sha256.Sum256(append(a[:], b[:]...))
}

// Signed records that child has a valid signature by parent. It is for callers that have just created and checked that
// signature, as x509.CreateCertificate does.
func Signed(child, parent *x509.Certificate) { signatures.Put(bothOf(child, parent), struct{}{}) }
