// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
)

// annotationApplied is where kubectl apply keeps a copy of a hand-made Secret, data and all.
const annotationApplied = corev1.LastAppliedConfigAnnotation

// A placeholder replaces, in the cache, a value that must not be there, and records whether the value was right. It starts with
// a word that every process generates at random, so that no Secret can pretend to be a stripped one.
var (
	placeholderWord  = newPlaceholderWord()
	placeholderGood  = append(bytes.Clone(placeholderWord), "good"...)
	placeholderWrong = append(bytes.Clone(placeholderWord), "wrong"...)
)

func newPlaceholderWord() []byte {
	word := make([]byte, 12)
	_, _ = rand.Read(word) // never fails (crypto/rand)
	return []byte("rekey-" + hex.EncodeToString(word) + "-")
}

// A user who can create identities can name any Secret, so all of these bounds hold for every Secret in the cache.
const (
	// mostRead is the longest ca.crt worth reading: a longer one is never parsed (pki.ParseCertificates).
	mostRead = 256 << 10
	// mostAuthority is the longest ca.crt that stays in each cached Secret. A longer one is replaced by its digest, and kept in
	// bundles.
	mostAuthority = 8 << 10
	// mostKept is how much tls.crt and metadata may have together. A larger Secret is left out, and read from the API server.
	mostKept = 16 << 10
	// entryKept is what an entry of a map or a list takes at most besides its text.
	entryKept = 64
	// keptKeys is how many keys stay, besides those that are read, and keptText the longest metadata text that stays.
	keptKeys = 16
	keptText = 512
)

// keyLeftOut replaces, in the cache, all data of a Secret that is left out, and keys beyond the limit.
const keyLeftOut = "rekey.dev-left-out"

// leftOut is shared by all these Secrets: nothing in the cache is changed in place.
var leftOut = map[string][]byte{keyLeftOut: placeholderWrong}

func isPlaceholder(value []byte) bool { return bytes.HasPrefix(value, placeholderWord) }

// shows compares one value of a Secret, or the placeholder for it, with what it should be.
func shows(have, want []byte) bool {
	if isPlaceholder(have) {
		return bytes.Equal(have, placeholderGood)
	}
	return bytes.Equal(have, want)
}

// isStripped reports whether a Secret lacks data that the API server has.
func isStripped(secret *corev1.Secret) bool {
	for _, value := range secret.Data {
		if isPlaceholder(value) {
			return true
		}
	}
	return isPlaceholder([]byte(secret.Annotations[annotationApplied]))
}

// refusePlaceholders is the last check before a write.
func refusePlaceholders(secret *corev1.Secret) error {
	if isStripped(secret) {
		return fmt.Errorf("writing Secret %s/%s: refused, because it has a placeholder from the cache", secret.Namespace, secret.Name)
	}
	return nil
}

// StripMaterial is the transform of the Secret cache: it removes managed fields and everything secret. A kubernetes.io/tls
// Secret keeps its public parts; its private key (and the files made of it) become placeholders that record whether they match the
// certificate, so that the cached copy is enough to detect damage. Keystores always become placeholders. Every other Secret keeps no
// data, and one that is too large only what StripAll keeps. It changes the object in place, as the cache expects, and is idempotent.
func StripMaterial(obj any) (any, error) {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	secret.ManagedFields, secret.StringData = nil, nil
	secret.SetSelfLink("")
	if _, ok := secret.Annotations[annotationApplied]; ok {
		secret.Annotations[annotationApplied] = string(placeholderWrong)
	}
	if LeftOut(secret) || weight(secret) > mostKept {
		return StripAll(secret), nil
	}
	if secret.Type != corev1.SecretTypeTLS {
		secret.Data = nil
		return secret, nil
	}
	stripCertificate(secret)
	return secret, nil
}

// stripCertificate leaves the public parts, and placeholders for the others.
func stripCertificate(secret *corev1.Secret) {
	certificate, key := secret.Data[credential.KeyCertificate], secret.Data[credential.KeyPrivateKey]
	for name, value := range secret.Data {
		if len(secret.Data) > keptKeys && !known[name] {
			delete(secret.Data, name)
			secret.Data[keyLeftOut] = placeholderWrong
			continue
		}
		if isPlaceholder(value) {
			continue
		}
		stays := name == credential.KeyCertificate && isPublic(value) || name == credential.KeyAuthority && isBundle(value)
		switch {
		case stays && name == credential.KeyAuthority && len(value) > mostAuthority:
			secret.Data[name] = placeholderOf(digestOf(value))
		case stays:
		case fitsPair(name, value, certificate, key):
			secret.Data[name] = placeholderGood
		default:
			secret.Data[name] = placeholderWrong
		}
	}
}

// fitsPair reports whether a value that is made of the private key or the certificate matches both.
func fitsPair(name string, value, certificate, key []byte) bool {
	switch name {
	case credential.KeyPrivateKey:
		return keyFits(certificate, key)
	case credential.KeyCombined:
		return combines(value, certificate, key)
	case credential.KeyPrivateKeyDER:
		return isKeyInDER(value, certificate, key)
	case credential.KeyCertificateDER:
		return isLeafInDER(value, certificate)
	}
	return false
}

func isPublic(value []byte) bool { return !bytes.Contains(value, []byte("PRIVATE KEY")) }

func isBundle(value []byte) bool { return len(value) <= mostRead && isPublic(value) }

// weight returns roughly how much memory StripMaterial would keep of the parts of a Secret that its writer can make arbitrarily
// large.
func weight(secret *corev1.Secret) int {
	out := len(secret.GenerateName) + len(secret.Type)
	for _, all := range []map[string]string{secret.Labels, secret.Annotations} {
		for key, value := range all {
			out += len(key) + len(value) + entryKept
		}
	}
	for _, finalizer := range secret.Finalizers {
		out += len(finalizer) + entryKept
	}
	for _, ref := range secret.OwnerReferences {
		out += len(ref.APIVersion) + len(ref.Kind) + len(ref.Name) + len(ref.UID) + 2*entryKept
	}
	if certificate := secret.Data[credential.KeyCertificate]; secret.Type == corev1.SecretTypeTLS && isPublic(certificate) {
		out += len(certificate)
	}
	return out
}

// known are the keys that a Secret of type kubernetes.io/tls may have.
var known = map[string]bool{
	credential.KeyCertificate: true, credential.KeyPrivateKey: true, credential.KeyAuthority: true, credential.KeyCombined: true,
	credential.KeyPrivateKeyDER: true, credential.KeyCertificateDER: true, keyLeftOut: true,
}

// StripAll is the transform for a Secret that is never read from the cache: only the owner that it names stays, so that the
// owner is enqueued. Anyone who can write Secrets can create as many as a quota allows, each with up to a MiB of anything.
func StripAll(secret *corev1.Secret) *corev1.Secret {
	have := secret.ObjectMeta
	secret.ObjectMeta = metav1.ObjectMeta{
		Namespace: have.Namespace, Name: have.Name, UID: have.UID, ResourceVersion: have.ResourceVersion, CreationTimestamp: have.CreationTimestamp,
		DeletionTimestamp: have.DeletionTimestamp, Labels: short(have.Labels, v1alpha1.LabelManagedBy, v1alpha1.LabelKind),
		Annotations: short(have.Annotations, v1alpha1.AnnotationOwner, v1alpha1.AnnotationOwnerUID),
	}
	secret.Data, secret.StringData = leftOut, nil
	if len(secret.Type) > keptText {
		secret.Type = ""
	}
	return secret
}

// LeftOut reports whether the cache kept nothing of a Secret.
func LeftOut(secret *corev1.Secret) bool { return isPlaceholder(secret.Data[keyLeftOut]) }

// short returns the given keys, without values that are too long to be ours.
func short(all map[string]string, keys ...string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		value, ok := all[key]
		if !ok || len(value) > keptText {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out
}

// keyFits reports whether the private key matches the leaf, which is the first certificate. key may be a placeholder.
func keyFits(certificate, key []byte) bool {
	if isPlaceholder(key) {
		return bytes.Equal(key, placeholderGood)
	}
	_, err := tls.X509KeyPair(certificate, key)
	return err == nil
}

// isKeyInDER reports whether value is the private key of the leaf, as PKCS#8 in DER.
func isKeyInDER(value, certificate, key []byte) bool {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return false
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	return err == nil && bytes.Equal(value, der)
}

// isLeafInDER reports whether value is the first certificate, in DER.
func isLeafInDER(value, certificate []byte) bool {
	block, _ := pem.Decode(certificate)
	return block != nil && bytes.Equal(value, block.Bytes)
}

// combines reports whether combined is the certificates and the key, in either order, and nothing else.
func combines(combined, certificate, key []byte) bool {
	return len(certificate) > 0 && len(key) > 0 &&
		(bytes.Equal(combined, append(bytes.Clone(certificate), key...)) || bytes.Equal(combined, append(bytes.Clone(key), certificate...)))
}
