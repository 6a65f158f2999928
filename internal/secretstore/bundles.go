// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"crypto/sha256"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/cache"
	"github.com/rekey/rekey/internal/credential"
)

// bundles caches long values of ca.crt by digest: the bundle of an organization is in the Secret of every identity. The cache
// takes at most 8 to 16 MiB, however many Secrets there are.
var bundles = cache.New[[]byte](32)

func digestOf(bundle []byte) cache.Key { return sha256.Sum256(bundle) }

// placeholderOf returns the placeholder for a bundle in the cache.
func placeholderOf(digest cache.Key) []byte {
	return append(bytes.Clone(placeholderWord), digest[:]...)
}

// noteBundle remembers the bundle of a Secret that was read from the API server.
func noteBundle(secret *corev1.Secret) {
	if value := secret.Data[credential.KeyAuthority]; len(value) > mostAuthority && isBundle(value) {
		bundles.Put(digestOf(value), value)
	}
}

// restore replaces the digest by its bundle. It reports false if the cache does not show what is in the Secret, because the
// Secret was left out or its bundle is no longer held.
func restore(secret *corev1.Secret) bool {
	if LeftOut(secret) {
		return false
	}
	name, ok := bytes.CutPrefix(secret.Data[credential.KeyAuthority], placeholderWord)
	if !ok || len(name) != sha256.Size {
		return true
	}
	digest := cache.Key(name)
	bundle, ok := bundles.Get(digest)
	if ok {
		bundles.Put(digest, bundle) // now the most recently used
		secret.Data[credential.KeyAuthority] = bundle
	}
	return ok
}
