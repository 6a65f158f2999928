// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
)

const (
	// minPassword is the minimum of keytool, for either format.
	minPassword = 6
	// MaxPassword is far above what anyone types or generates.
	MaxPassword = 128
)

// CheckPassword returns an error unless every reader of either format derives the same key from the password: 6 to 128 printable
// ASCII characters. Java reads the characters of other passwords differently in the two formats. The error reads as the rest of a
// sentence about the password, and shows nothing of it.
func CheckPassword(password credential.Sensitive) error {
	text := password.Reveal()
	if trimmed := bytes.TrimRight(text, "\r\n"); len(trimmed) < len(text) {
		return errors.New("ends with a line break, which applications do not send: store it without one, for example with `printf %s`")
	}
	for _, b := range text {
		if b < ' ' || b > '~' {
			return errors.New("has a character that is not printable ASCII, which Java reads differently in PKCS12 and JKS: choose a password of letters, digits and symbols of ASCII")
		}
	}
	switch {
	case len(text) < minPassword:
		return fmt.Errorf("is %d characters long, but keytool and Java need at least %d: choose a longer one", len(text), minPassword)
	case len(text) > MaxPassword:
		return fmt.Errorf("is %d characters long, but at most %d are allowed: choose a shorter one", len(text), MaxPassword)
	}
	return nil
}
