// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/sha256"
	"crypto/x509"

	"github.com/rekey/rekey/internal/cache"
)

// signatures remembers which signatures were found to be good: of one certificate the same question is asked many times
// while it is issued, and checking a signature is most of the cost of reading a certificate. A bad one is not remembered. There
// is room for a fleet that is renewed at once: each is asked about again when its turn comes.
var signatures = cache.New[struct{}](8192)

// checkSignature is child.CheckSignatureFrom(parent), asked once for the same two certificates.
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

// bothOf names two certificates by every octet of both.
func bothOf(child, parent *x509.Certificate) cache.Key {
	a, b := sha256.Sum256(child.Raw), sha256.Sum256(parent.Raw)
	return sha256.Sum256(append(a[:], b[:]...))
}

// Signed notes that child carries a good signature of parent: for whoever made that signature, and checked it then, as
// x509.CreateCertificate does.
func Signed(child, parent *x509.Certificate) { signatures.Put(bothOf(child, parent), struct{}{}) }

// requests are those that were made here: x509.CreateCertificateRequest checks the signature that it makes.
var requests = cache.New[struct{}](128)

func signedRequest(der []byte) { requests.Put(sha256.Sum256(der), struct{}{}) }

// checkRequest is request.CheckSignature(), unless the request was made here.
func checkRequest(request *x509.CertificateRequest) error {
	if _, ok := requests.Get(sha256.Sum256(request.Raw)); ok {
		return nil
	}
	return request.CheckSignature()
}
