// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
)

func TestAGoodSignatureIsRememberedForTheSameTwoCertificatesOnly(t *testing.T) {
	one, other := anAuthority(t), anAuthority(t)
	for range 2 {
		if err := checkSignature(one, one); err != nil {
			t.Fatal("a certificate that signed itself:", err)
		}
		if checkSignature(one, other) == nil || checkSignature(other, one) == nil {
			t.Fatal("a certificate that signed nothing counts as a signer")
		}
	}
	damaged := *one
	damaged.Raw = append([]byte(nil), one.Raw...)
	damaged.Raw[len(damaged.Raw)-1] ^= 1
	damaged.Signature = append([]byte(nil), one.Signature...)
	damaged.Signature[len(damaged.Signature)-1] ^= 1
	if checkSignature(&damaged, one) == nil {
		t.Error("a damaged signature counts as valid because the original's is")
	}
}

func anAuthority(t *testing.T) *x509.Certificate {
	t.Helper()
	_, certificate := selfSign(t, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	return certificate
}

func TestARequestFromElsewhereIsAlwaysChecked(t *testing.T) {
	key, err := NewKey(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	request, err := NewRequest(key, Names{CommonName: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRequest(request); err != nil {
		t.Fatalf("a request created here: %v", err)
	}
	block, _ := pem.Decode(request)
	block.Bytes[len(block.Bytes)-1] ^= 1 // the signature is last
	for range 2 {
		if _, err := ParseRequest(pem.EncodeToMemory(block)); err == nil {
			t.Error("a request with another signature is accepted")
		}
	}
}

func TestADamagedCopyOfAKnownRootIsRefused(t *testing.T) {
	root := anAuthority(t)
	der := append([]byte(nil), root.Raw...)
	der[len(der)-1] ^= 1
	damaged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := selfSignature(root); err != nil {
			t.Fatal("a root:", err)
		}
		if selfSignature(damaged) == nil {
			t.Fatal("a root with a damaged signature counts as whole because the original is")
		}
	}
}

// The signature of an anchor on itself matters to nobody, so it may be outdated. That does not make it a good signature on
// another certificate, in whichever order the two questions are asked.
func TestARootWithAnOutdatedSignatureOnItselfIsAnAnchorAndNoMore(t *testing.T) {
	_, root := selfSign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: x509.ECDSAWithSHA1,
	}, nil, nil)
	for range 2 {
		if err := selfSignature(root); err != nil {
			t.Errorf("as an anchor: %v", err)
		}
		var outdated x509.InsecureAlgorithmError
		if err := checkSignature(root, root); !errors.As(err, &outdated) {
			t.Errorf("its signature as one on a certificate in a path: %v, want one that names the algorithm", err)
		}
	}
}
