// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"crypto/sha256"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/recent"
)

// bundles are the long values of ca.crt that were read last, by their digest: the bundle of an organization stands in the
// Secret of every identity. They take between 8 and 16 MiB at most, however many Secrets there are.
var bundles = recent.New[[]byte](32)

func digestOf(bundle []byte) recent.Digest { return sha256.Sum256(bundle) }

// placeholderOf stands in the cache for a bundle.
func placeholderOf(digest recent.Digest) []byte {
	return append(bytes.Clone(placeholderWord), digest[:]...)
}

// noteBundle is for a Secret that was read from the API server.
func noteBundle(secret *corev1.Secret) {
	if value := secret.Data[credential.KeyAuthority]; len(value) > mostAuthority && isBundle(value) {
		bundles.Put(digestOf(value), value)
	}
}

// restore puts the bundle back in place of its digest. It reports false where the cache is not enough to see what is in the
// Secret, because it was left out, or because its bundle is not held.
func restore(secret *corev1.Secret) bool {
	if LeftOut(secret) {
		return false
	}
	name, ok := bytes.CutPrefix(secret.Data[credential.KeyAuthority], placeholderWord)
	if !ok || len(name) != sha256.Size {
		return true
	}
	digest := recent.Digest(name)
	bundle, ok := bundles.Get(digest)
	if ok {
		bundles.Put(digest, bundle) // it is the last one now
		secret.Data[credential.KeyAuthority] = bundle
	}
	return ok
}
