// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/rekey/rekey/internal/keystore"
	"github.com/rekey/rekey/internal/pki"
)

// The parts of a PKCS#12 file (RFC 7292, section 4) with PBMAC1 (RFC 9579, section 4; RFC 8018, appendix A).
type (
	pfx struct {
		Version  int
		AuthSafe struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue `asn1:"tag:0,explicit"`
		}
		MacData struct {
			Mac struct {
				Algorithm pkix.AlgorithmIdentifier
				Digest    []byte
			}
			Salt       []byte
			Iterations int `asn1:"optional,default:1"`
		}
	}
	pbmac1 struct{ KDF, Scheme pkix.AlgorithmIdentifier }
	kdf    struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

var (
	oidPBMAC1     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

func decode(t *testing.T, der []byte, into any) {
	t.Helper()
	if rest, err := asn1.Unmarshal(der, into); err != nil || len(rest) > 0 {
		t.Fatalf("decoding %T: %v, %d bytes left", into, err, len(rest))
	}
}

// The programs of this machine may be too old to verify PBMAC1, so the test computes it.
func TestTheMACOfTheNewestProfileIsThatOfRFC9579(t *testing.T) {
	files, err := settings(keystore.Modern2026).Encode(newContent(t, pki.ECDSAP256).data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keystore.FileKeyPKCS12, keystore.FileTrustPKCS12} {
		var file pfx
		var content []byte
		var mac pbmac1
		var derivation kdf
		decode(t, files[name], &file)
		decode(t, file.AuthSafe.Content.Bytes, &content)
		algorithm := file.MacData.Mac.Algorithm
		if !algorithm.Algorithm.Equal(oidPBMAC1) {
			t.Fatalf("%s: the MAC has the algorithm %s", name, algorithm.Algorithm)
		}
		decode(t, algorithm.Parameters.FullBytes, &mac)
		decode(t, mac.KDF.Parameters.FullBytes, &derivation)
		if !mac.Scheme.Algorithm.Equal(oidHMACSHA256) || !derivation.PRF.Algorithm.Equal(oidHMACSHA256) || derivation.KeyLength < 20 {
			t.Fatalf("%s: scheme %s, derivation %s, key of %d bytes", name, mac.Scheme.Algorithm, derivation.PRF.Algorithm, derivation.KeyLength)
		}
		for with, want := range map[string]bool{password: true, "another password": false} {
			key, err := pbkdf2.Key(sha256.New, with, derivation.Salt, derivation.Iterations, derivation.KeyLength)
			if err != nil {
				t.Fatal(err)
			}
			digest := hmac.New(sha256.New, key)
			digest.Write(content)
			if got := hmac.Equal(digest.Sum(nil), file.MacData.Mac.Digest); got != want {
				t.Errorf("%s with %q: the MAC fits: %t, want %t", name, with, got, want)
			}
		}
	}
}
