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
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

var issuedAt = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// pair creates a key and a certificate for it, named name.
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

// expectNone fails if any of the secrets is anywhere in the object, in plain text, as base64 or as JSON encodes it.
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
	combined := pki.TLSSecretData(credential.Material{
		credential.KeyCertificate: credential.NewSensitive(certificate), credential.KeyPrivateKey: credential.NewSensitive(key),
	}, []pki.Format{pki.CombinedPEM})[credential.KeyCombined]

	good, wrong := placeholderGood, placeholderWrong
	cases := map[string]struct{ data, want map[string][]byte }{
		"a pair": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": certificate},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, "ca.crt": certificate},
		},
		"an RSA pair":     {map[string][]byte{"tls.crt": rsaCertificate, "tls.key": rsaPrivate}, map[string][]byte{"tls.crt": rsaCertificate, "tls.key": good}},
		"an Ed25519 pair": {map[string][]byte{"tls.crt": edCertificate, "tls.key": edPrivate}, map[string][]byte{"tls.crt": edCertificate, "tls.key": good}},
		"a combined file": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, credential.KeyCombined: combined},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, credential.KeyCombined: good},
		},
		"a combined file with another key": {
			map[string][]byte{"tls.crt": certificate, "tls.key": key, credential.KeyCombined: slices.Concat(otherKey, certificate)},
			map[string][]byte{"tls.crt": certificate, "tls.key": good, credential.KeyCombined: wrong},
		},
		"another key":      {map[string][]byte{"tls.crt": certificate, "tls.key": otherKey}, map[string][]byte{"tls.crt": certificate, "tls.key": wrong}},
		"half a key":       {map[string][]byte{"tls.crt": certificate, "tls.key": key[:len(key)/2]}, map[string][]byte{"tls.crt": certificate, "tls.key": wrong}},
		"no certificate":   {map[string][]byte{"tls.key": key}, map[string][]byte{"tls.key": wrong}},
		"no key":           {map[string][]byte{"tls.crt": certificate}, map[string][]byte{"tls.crt": certificate}},
		"a key in tls.crt": {map[string][]byte{"tls.crt": combined, "tls.key": key}, map[string][]byte{"tls.crt": wrong, "tls.key": good}},
		"a key in ca.crt":  {map[string][]byte{"tls.crt": certificate, "ca.crt": key}, map[string][]byte{"tls.crt": certificate, "ca.crt": wrong}},
		"a foreign key":    {map[string][]byte{"tls.crt": certificate, "mine": []byte(canary)}, map[string][]byte{"tls.crt": certificate, "mine": wrong}},
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
					t.Error("the cached data is wrong")
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

// size returns roughly how much memory an object takes.
func size(t *testing.T, secret *corev1.Secret) int {
	t.Helper()
	text, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// TestCacheKeepsOfASecretOnlyWhatIsRead fills every part of a Secret that can be filled, one after another.
func TestCacheKeepsOfASecretOnlyWhatIsRead(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	many := func(n int) map[string]string {
		out := map[string]string{}
		for i := range n {
			out[fmt.Sprint(long[:200], i)] = "x"
		}
		return out
	}
	all := map[string]func(secret *corev1.Secret){
		"the certificate":   func(o *corev1.Secret) { o.Data["tls.crt"] = []byte(long) },
		"the authority":     func(o *corev1.Secret) { o.Data["ca.crt"] = []byte(long) },
		"the key":           func(o *corev1.Secret) { o.Data["tls.key"] = []byte(long) },
		"the combined file": func(o *corev1.Secret) { o.Data["tls-combined.pem"] = []byte(long) },
		"a foreign key":     func(o *corev1.Secret) { o.Data["mine"] = []byte(long) },
		"many keys": func(o *corev1.Secret) {
			for key := range many(4000) {
				o.Data[key] = []byte("x")
			}
		},
		"string data":        func(o *corev1.Secret) { o.StringData = map[string]string{"mine": long} },
		"what kubectl wrote": func(o *corev1.Secret) { o.Annotations[annotationApplied] = long },
		"managed fields":     func(o *corev1.Secret) { o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: long}} },
		"an annotation":      func(o *corev1.Secret) { o.Annotations["note"] = long },
		"many annotations":   func(o *corev1.Secret) { maps.Copy(o.Annotations, many(1000)) },
		"the owner":          func(o *corev1.Secret) { o.Annotations[v1alpha1.AnnotationOwner] = "ClientIdentity/" + long },
		"the owner's UID":    func(o *corev1.Secret) { o.Annotations[v1alpha1.AnnotationOwnerUID] = long },
		"the revision":       func(o *corev1.Secret) { o.Annotations[v1alpha1.AnnotationRevision] = long },
		"many labels":        func(o *corev1.Secret) { maps.Copy(o.Labels, many(4000)) },
		"the kind":           func(o *corev1.Secret) { o.Labels[v1alpha1.LabelKind] = long },
		"owner references":   func(o *corev1.Secret) { o.OwnerReferences = []metav1.OwnerReference{{Name: long}} },
		"finalizers":         func(o *corev1.Secret) { o.Finalizers = []string{long} },
		"the generated name": func(o *corev1.Secret) { o.GenerateName = long },
		"the type":           func(o *corev1.Secret) { o.Type = corev1.SecretType(long) },
		"the self link":      func(o *corev1.Secret) { o.SetSelfLink(long) },
	}
	certificate, key := pair(t, newKey(t), "one")
	newSecret := func() *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "mtls", UID: "uid", ResourceVersion: "7",
			Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}, Annotations: map[string]string{v1alpha1.AnnotationOwner: "ClientIdentity/orders"}},
			Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}}
	}
	strips := map[string]struct {
		most  int
		strip func(*corev1.Secret) (any, error)
	}{
		"named by an identity":      {8 << 10, func(o *corev1.Secret) (any, error) { return StripMaterial(o) }},
		"not named by any identity": {2 << 10, func(o *corev1.Secret) (any, error) { return StripAll(o), nil }},
	}
	for whose, tc := range strips {
		for what, fill := range all {
			t.Run(whose+", "+what, func(t *testing.T) {
				secret := newSecret()
				fill(secret)
				for range 2 {
					if _, err := tc.strip(secret); err != nil {
						t.Fatal(err)
					}
					if kept := size(t, secret); kept > tc.most {
						t.Errorf("%d bytes stay in the cache, want at most %d", kept, tc.most)
					}
					if !isStripped(secret) || refusePlaceholders(secret) == nil {
						t.Error("it counts as whole, and could be written")
					}
				}
				if kind, name, ok := OwnerOf(secret); what != "the owner" && (!ok || kind != "ClientIdentity" || name != "orders") {
					t.Errorf("its owner is %s/%s, and would not be woken", kind, name)
				}
			})
		}
	}
}

// TestCacheKeepsLittleOfASecretOfAnySize checks sizes around every limit: many Secrets may each keep the maximum.
func TestCacheKeepsLittleOfASecretOfAnySize(t *testing.T) {
	const most = 40 << 10 // 24 KiB as base64, and the rest
	parts := map[string]func(secret *corev1.Secret, value string){
		"the certificate": func(o *corev1.Secret, value string) { o.Data["tls.crt"] = []byte(value) },
		"the authority":   func(o *corev1.Secret, value string) { o.Data["ca.crt"] = []byte(value) },
		"an annotation":   func(o *corev1.Secret, value string) { o.Annotations["note"] = value },
		"a label":         func(o *corev1.Secret, value string) { o.Labels["note"] = value },
		"a finalizer":     func(o *corev1.Secret, value string) { o.Finalizers = []string{value} },
		"empty annotations": func(o *corev1.Secret, value string) {
			for i := range len(value) / 8 {
				o.Annotations[fmt.Sprint(i)] = ""
			}
		},
		"everything": func(o *corev1.Secret, value string) {
			o.Data["tls.crt"], o.Data["ca.crt"], o.Annotations["note"], o.Finalizers = []byte(value), []byte(value), value, []string{value}
		},
	}
	for part, fill := range parts {
		for _, length := range []int{mostAuthority, mostAuthority + 1, mostKept - 1000, mostKept + 1, mostRead, mostRead + 1} {
			secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.key": []byte(canary)},
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Annotations: map[string]string{}}}
			fill(secret, strings.Repeat("x", length))
			if _, err := StripMaterial(secret); err != nil {
				t.Fatal(err)
			}
			if kept := size(t, secret); kept > most {
				t.Errorf("%s of %d bytes: %d bytes stay in the cache, want at most %d", part, length, kept, most)
			}
		}
	}
}

func TestPlaceholderIsNeverWritten(t *testing.T) {
	secret := &corev1.Secret{Data: map[string][]byte{"tls.key": placeholderGood}}
	if _, err := write(t.Context(), nil, nil, secret); err == nil {
		t.Error("it was")
	}
}

// BenchmarkStripMaterial measures what 10,000 Secrets cost when the cache is filled.
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
