// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/material"
)

var issuedAt = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// pair makes a key and a certificate for it, named name.
func pair(tb testing.TB, key crypto.Signer, name string) (certificate, privateKey []byte) {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: issuedAt, NotAfter: issuedAt.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func newKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// expectNone fails where any of the secrets is anywhere in the object, plain, as base64 or as JSON shows it.
func expectNone(t *testing.T, secret *corev1.Secret, values ...[]byte) {
	t.Helper()
	shown, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	all := [][]byte{shown}
	for _, value := range secret.Data {
		all = append(all, value)
	}
	for _, value := range secret.Annotations {
		all = append(all, []byte(value))
	}
	for _, value := range values {
		inner := value
		if block, _ := pem.Decode(value); block != nil {
			inner = bytes.Split(pem.EncodeToMemory(block), []byte("\n"))[1]
		}
		for _, place := range all {
			for _, form := range [][]byte{value, inner, []byte(base64.StdEncoding.EncodeToString(value))} {
				if bytes.Contains(place, form) {
					t.Fatal("the cached object holds a secret")
				}
			}
		}
	}
}

func TestCachedSecretHoldsNoKeyAndStillShowsDamage(t *testing.T) {
	certificate, key := pair(t, newKey(t), "one")
	_, otherKey := pair(t, newKey(t), "two")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCertificate, rsaPrivate := pair(t, rsaKey, "rsa")
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edCertificate, edPrivate := pair(t, edKey, "ed")
	combined := material.TLSSecretData(credential.Material{
		credential.KeyCertificate: credential.NewSensitive(certificate), credential.KeyPrivateKey: credential.NewSensitive(key),
	}, []material.Format{material.CombinedPEM})[material.KeyCombined]

	good, wrong := placeholderGood, placeholderWrong
	cases := map[string]struct{ data, want map[string][]byte }{
		"a pair": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": certificate},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, "ca.crt": certificate},
		},
		"an RSA pair":     {map[string][]byte{"tls.crt": rsaCertificate, "tls.key": rsaPrivate}, map[string][]byte{"tls.crt": rsaCertificate, "tls.key": good}},
		"an Ed25519 pair": {map[string][]byte{"tls.crt": edCertificate, "tls.key": edPrivate}, map[string][]byte{"tls.crt": edCertificate, "tls.key": good}},
		"a combined file": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, material.KeyCombined: combined},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, material.KeyCombined: good},
		},
		"a combined file with another key": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, material.KeyCombined: slices.Concat(otherKey, certificate)},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, material.KeyCombined: wrong},
		},
		"another key":       {map[string][]byte{"tls.crt": certificate, "tls.key": otherKey}, map[string][]byte{"tls.crt": certificate, "tls.key": wrong}},
		"half a key":        {map[string][]byte{"tls.crt": certificate, "tls.key": key[:len(key)/2]}, map[string][]byte{"tls.crt": certificate, "tls.key": wrong}},
		"no certificate":    {map[string][]byte{"tls.key": key}, map[string][]byte{"tls.key": wrong}},
		"no key":            {map[string][]byte{"tls.crt": certificate}, map[string][]byte{"tls.crt": certificate}},
		"a key in tls.crt":  {map[string][]byte{"tls.crt": combined, "tls.key": key}, map[string][]byte{"tls.crt": wrong, "tls.key": good}},
		"a key in ca.crt":   {map[string][]byte{"tls.crt": certificate, "ca.crt": key}, map[string][]byte{"tls.crt": certificate, "ca.crt": wrong}},
		"a key of somebody": {map[string][]byte{"tls.crt": certificate, "mine": []byte(canary)}, map[string][]byte{"tls.crt": certificate, "mine": wrong}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: tc.data}
			secret.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
			secret.Annotations = map[string]string{annotationApplied: base64.StdEncoding.EncodeToString([]byte(canary)), "note": "kept"}
			for range 2 {
				got, err := StripMaterial(secret)
				if err != nil || got != any(secret) {
					t.Fatalf("%v, %v", got, err)
				}
				if diff := cmp.Diff(tc.want, secret.Data); diff != "" {
					t.Error("the cached data is not as it should be")
				}
				expectNone(t, secret, key, otherKey, rsaPrivate, edPrivate, []byte(canary))
				if secret.ManagedFields != nil || secret.Annotations["note"] != "kept" || !isStripped(secret) {
					t.Errorf("metadata %+v", secret.ObjectMeta)
				}
			}
		})
	}
}

func TestCacheKeepsNothingOfLedgersAndLogins(t *testing.T) {
	for _, kind := range []corev1.SecretType{v1alpha1.SecretTypeLedger, v1alpha1.SecretTypePostgreSQL, corev1.SecretTypeOpaque} {
		secret := &corev1.Secret{Type: kind, Data: map[string][]byte{"password": []byte(canary), "username": []byte("app_a")}, StringData: map[string]string{"p": canary}}
		if _, err := StripMaterial(secret); err != nil {
			t.Fatal(err)
		}
		expectNone(t, secret, []byte(canary))
		if len(secret.Data) > 0 {
			t.Errorf("of %s the cache keeps %d values", kind, len(secret.Data))
		}
	}
	other := &corev1.ConfigMap{Data: map[string]string{"a": "b"}}
	if got, err := StripMaterial(other); err != nil || got != any(other) || other.Data["a"] != "b" {
		t.Errorf("another kind became %v, %v", got, err)
	}
}

func TestPlaceholderIsNeverWritten(t *testing.T) {
	secret := &corev1.Secret{Data: map[string][]byte{"tls.key": placeholderGood}}
	if _, err := write(t.Context(), nil, nil, secret); err == nil {
		t.Error("it was")
	}
}

// BenchmarkStripMaterial is what 10,000 Secrets cost when the cache is filled.
func BenchmarkStripMaterial(b *testing.B) {
	certificate, key := pair(b, newKey(b), "one")
	for b.Loop() {
		for range 10_000 {
			secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}}
			if _, err := StripMaterial(secret); err != nil {
				b.Fatal(err)
			}
		}
	}
}
