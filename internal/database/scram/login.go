// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/password"
)

// Login returns the material of a new login: the username, a new password and its verifier.
func Login(username string, length int, alphabet password.Alphabet) (credential.Material, error) {
	secret, err := password.New(length, alphabet)
	if err != nil {
		return nil, err
	}
	verifier, err := Verifier(secret)
	if err != nil {
		return nil, err
	}
	return credential.Material{
		credential.KeyUsername: credential.SensitiveString(username),
		credential.KeyPassword: secret,
		credential.KeyVerifier: credential.SensitiveString(verifier),
	}, nil
}
