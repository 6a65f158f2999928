// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"crypto/subtle"
	"maps"
	"slices"
)

// Keys of the material. The values of a login are ASCII; those of a certificate are PEM.
const (
	KeyUsername = "username"
	KeyPassword = "password"
	// KeyVerifier is the SCRAM-SHA-256 verifier of the password, in the form in which PostgreSQL stores it (RFC 5803,
	// PostgreSQL "pg_authid"). It is generated once, together with the password: sending the same one twice changes nothing.
	KeyVerifier = "verifier"

	KeyPrivateKey  = "tls.key"
	KeyCertificate = "tls.crt" // leaf first, then the chain without the root
	KeyAuthority   = "ca.crt"  // the trust anchors
	KeyRequest     = "csr"     // PKCS#10, PEM
	// KeyCombined holds private key and certificates in one value, in a user's Secret only.
	KeyCombined = "tls-combined.pem"
	// KeyPrivateKeyDER and KeyCertificateDER hold the private key (PKCS#8) and the leaf in DER, in a user's Secret only.
	KeyPrivateKeyDER  = "key.der"
	KeyCertificateDER = "tls.der"
)

// Material holds the secrets of one version of a credential, by name. It cannot be printed.
type Material map[string]Sensitive

// String returns the secret under key as a string; empty if there is none.
func (m Material) String(key string) string { return string(m[key].Reveal()) }

// Clone returns an independent copy of the map.
func (m Material) Clone() Material { return maps.Clone(m) }

// With returns a copy with key set to value.
func (m Material) With(key string, value []byte) Material {
	out := maps.Clone(m)
	if out == nil {
		out = Material{}
	}
	out[key] = NewSensitive(value)
	return out
}

// Keys returns the names, sorted.
func (m Material) Keys() []string { return slices.Sorted(maps.Keys(m)) }

// Equal reports whether both have the same secrets. It compares each key in constant time.
func (m Material) Equal(other Material) bool {
	if len(m) != len(other) {
		return false
	}
	same := 1
	for key, value := range m {
		theirs, ok := other[key]
		if !ok {
			return false
		}
		same &= subtle.ConstantTimeCompare(value.bytes, theirs.bytes)
	}
	return same == 1
}
