// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/rekey/rekey/internal/credential"
)

const (
	// sealIterations is above the iterations with which the files themselves are encrypted, so that nobody learns a password faster
	// from the seal than from the files.
	sealIterations = 10_000
	sealVersion    = "rekey keystores 1"
)

// Seal returns a text that depends on everything that went into the files in data, and on the files: password, alias, profile,
// tls.crt, tls.key and ca.crt. Equal seals mean that Encode would return files with the same content. It is keyed with the private
// key: without that, it reveals nothing about the password, not even to someone who guesses it.
func (s Settings) Seal(data map[string][]byte) (string, error) {
	salt := sha256.Sum256(slices.Concat([]byte(sealVersion+"\x00"), data[credential.KeyPrivateKey]))
	key, err := pbkdf2.Key(sha256.New, string(s.Password.Reveal()), salt[:], sealIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving the key of the seal: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{sealVersion, s.alias(), string(s.profile())} {
		add(mac, []byte(part))
	}
	names := []string{credential.KeyCertificate, credential.KeyAuthority}
	for _, name := range append(names, s.Files()...) {
		add(mac, []byte(name))
		add(mac, data[name])
	}
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// add writes a value with its length, so that no two lists of values look the same.
func add(to hash.Hash, value []byte) {
	_, _ = to.Write(binary.BigEndian.AppendUint64(nil, uint64(len(value))))
	_, _ = to.Write(value)
}
