// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"crypto/x509"
	"encoding/binary"
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
		t.Error("a damaged signature counts as good, since that of the whole certificate is")
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	const size = 16
	memory := newRecent[struct{}](size)
	var key digest
	for i := range uint64(5 * size) {
		binary.BigEndian.PutUint64(key[:], i)
		memory.put(key, struct{}{})
		if _, ok := memory.get(key); !ok {
			t.Fatalf("answer %d was forgotten at once", i)
		}
	}
	if got := len(memory.young) + len(memory.old); got > 2*size {
		t.Errorf("%d answers are remembered, want at most %d", got, 2*size)
	}
}

func anAuthority(t *testing.T) *x509.Certificate {
	t.Helper()
	_, certificate := selfSign(t, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	return certificate
}
