// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"

	"github.com/rekey/rekey/internal/credential"
)

const (
	iterations = 4096 // PostgreSQL's own default; the strength is in the password's entropy, not in the iterations
	saltLength = 16
)

// Verifier returns the SCRAM-SHA-256 verifier of a password with a random salt, as PostgreSQL stores it (RFC 5803 section 2;
// PostgreSQL, "pg_authid"):
//
//	SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
//
// The password must be printable ASCII: for such passwords SASLprep (RFC 4013) changes nothing. The error never contains it.
func Verifier(password credential.Sensitive) (string, error) {
	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("reading random numbers: %w", err)
	}
	return verifierOf(password, salt, iterations)
}

func verifierOf(password credential.Sensitive, salt []byte, iterations int) (string, error) {
	plain := password.Reveal()
	if len(plain) == 0 {
		return "", errors.New("deriving a SCRAM verifier: the password is empty")
	}
	for _, b := range plain {
		if b < 0x20 || b > 0x7e {
			return "", errors.New("deriving a SCRAM verifier: the password holds a character that is not printable ASCII")
		}
	}
	salted, err := pbkdf2.Key(sha256.New, string(plain), salt, iterations, sha256.Size)
	if err != nil {
		return "", errors.New("deriving a SCRAM verifier: PBKDF2 failed")
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

var verifierForm = regexp.MustCompile(`^SCRAM-SHA-256\$[1-9][0-9]{3,6}:([A-Za-z0-9+/]+={0,2})\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$`)

// IsVerifier reports whether PostgreSQL accepts text as a verifier. PostgreSQL silently hashes anything else as if it were a
// password.
func IsVerifier(text string) bool {
	parts := verifierForm.FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	for _, part := range parts[1:] {
		if _, err := base64.StdEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return true
}
