// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"crypto/sha256"
	"crypto/x509"

	"github.com/rekey/rekey/internal/recent"
)

// signatures remembers which signatures were found to be good: of one certificate the same question is asked many times
// while it is issued, and checking a signature is most of the cost of reading a certificate. A bad one is not remembered.
var signatures = recent.New[struct{}](2048)

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
func bothOf(child, parent *x509.Certificate) recent.Digest {
	a, b := sha256.Sum256(child.Raw), sha256.Sum256(parent.Raw)
	return sha256.Sum256(append(a[:], b[:]...))
}
