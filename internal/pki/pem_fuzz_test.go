// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

// FuzzPEM parses its input as a key, as a request, as certificates and as a bundle. Accepted input is strong enough and
// parses again to the same value; an error about refused input contains nothing of it.
func FuzzPEM(f *testing.F) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.Ed25519} {
		key := newKey(f, algorithm)
		f.Add(key)
		f.Add(must[[]byte](f)(pki.NewRequest(credential.NewSensitive(key), wanted().Names)))
	}
	root := authority(f, "root", nil, nil)
	middle := authority(f, "middle", &root, nil)
	f.Add(append(sign(f, leafTemplate(), &middle, pki.ECDSAP256).pem(), middle.pem()...))
	f.Add(root.pem())
	f.Add(pemBlock(f, "EC PRIVATE KEY")(x509.MarshalECPrivateKey(ecKey(f, elliptic.P384()))))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tryKey(t, data)
		tryRequest(t, data)
		tryCertificates(t, data)
		tryBundle(t, data)
	})
}

func tryKey(t *testing.T, data []byte) {
	t.Helper()
	key, err := pki.ParseKey(data)
	if err != nil {
		wantNoKey(t, err.Error(), data)
		return
	}
	if err := pki.CheckPublicKey(key.Public()); err != nil {
		t.Errorf("a key was accepted that is not good enough: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pki.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatalf("what was read cannot be read again: %v", err)
	}
	if !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
		t.Error("it is a different key when it is read again")
	}
}

func tryRequest(t *testing.T, data []byte) {
	t.Helper()
	request, err := pki.ParseRequest(data)
	if err != nil {
		return
	}
	if err := pki.CheckPublicKey(request.PublicKey); err != nil {
		t.Errorf("a request was accepted for a key that is not good enough: %v", err)
	}
	again, err := pki.ParseRequest(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request.Raw}))
	if err != nil || !bytes.Equal(again.Raw, request.Raw) {
		t.Errorf("what was read cannot be read again: %v", err)
	}
}

// tryBundle reads a file as users provide it, and searches it for paths. Whatever the strict parser accepts is also accepted
// as a bundle.
func tryBundle(t *testing.T, data []byte) {
	t.Helper()
	bundle, err := pki.ParseBundle(data)
	if err != nil {
		wantNoKey(t, err.Error(), data)
		known := func(c *x509.Certificate) bool { return c.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm }
		if certificates, strict := pki.ParseCertificates(data); strict == nil && slices.ContainsFunc(certificates, known) {
			t.Errorf("certificates that rekey could have written are refused as a bundle: %v", err)
		}
		return
	}
	if len(bundle.Certificates) == 0 {
		t.Fatal("an empty bundle is accepted")
	}
	if certificates, strict := pki.ParseCertificates(data); strict == nil && len(bundle.Certificates) > len(certificates) {
		t.Errorf("%d certificates are read, and %d as a bundle", len(certificates), len(bundle.Certificates))
	}
	again, err := pki.ParseBundle(pki.EncodeCertificates(bundle.Certificates...))
	if err != nil || len(again.Certificates) != len(bundle.Certificates) || len(again.Unreadable) > 0 {
		t.Fatalf("%d certificates of a bundle were read, and then %d: %v", len(bundle.Certificates), len(again.Certificates), err)
	}
	paths, err := pki.SearchPaths(bundle.Certificates[0], bundle, bundle)
	if (err == nil) != (len(paths) > 0) {
		t.Errorf("%d paths and the error %v", len(paths), err)
	}
	for _, path := range paths {
		if path.NotAfter.Before(path.First.NotBefore) && path.ValidAt(path.NotAfter) {
			t.Errorf("a path that is never valid is valid at %s", path.NotAfter)
		}
	}
}

func tryCertificates(t *testing.T, data []byte) {
	t.Helper()
	certificates, err := pki.ParseCertificates(data)
	if err != nil {
		return
	}
	again, err := pki.ParseCertificates(pki.EncodeCertificates(certificates...))
	if err != nil || len(again) != len(certificates) {
		t.Fatalf("%d certificates were read, and then %d: %v", len(certificates), len(again), err)
	}
	for i, certificate := range certificates {
		if !again[i].Equal(certificate) || pki.Describe(certificate) == "" || pki.SHA256(certificate) != pki.SHA256(again[i]) {
			t.Errorf("certificate %d is a different one when it is read again", i+1)
		}
		pki.IdentityOf(certificate, own()).Fingerprint()
	}
}
