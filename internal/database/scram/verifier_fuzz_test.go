// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/credential"
)

// FuzzVerifier derives verifiers of passwords. A verifier is well-formed, or the password is refused with an error that does
// not contain it.
func FuzzVerifier(f *testing.F) {
	for _, seed := range []string{"pencil", "", "p\u00e4ssword", "a\x00b", strings.Repeat("x", 300), " ", "$:\\'\"", "Abc-_.~+,=@^1", "p:%2f@?#&'\" \\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		verifier, err := Verifier(credential.SensitiveString(password))
		if err != nil {
			if len(password) > 8 && strings.Contains(err.Error(), password) {
				t.Error("the error contains the password")
			}
			return
		}
		if !IsVerifier(verifier) {
			t.Errorf("malformed: %q", verifier)
		}
	})
}
