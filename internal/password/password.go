// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
)

// Alphabet names the characters of a password, as the DatabaseCredential kind does.
type Alphabet string

const (
	// Alphanumeric is A-Z, a-z and 0-9: safe in every file format, URI and shell without quoting.
	Alphanumeric Alphabet = "Alphanumeric"
	// WithSymbols adds - _ . ~ , = * and guarantees at least one upper case letter, lower case letter, digit and symbol.
	// No symbol needs an escape in a URI's userinfo, in .pgpass, or inside quotes of a shell or of libpq.
	WithSymbols Alphabet = "WithSymbols"
)

const (
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
	symbols = "-_.~,=*"
)

// Limits of the length of a password, in characters.
const (
	MinLength = 16
	MaxLength = 256
)

// New generates a password of length characters, each equally likely. A password WithSymbols that lacks one of the four classes
// is drawn again.
func New(length int, alphabet Alphabet) (credential.Sensitive, error) {
	if length < MinLength || length > MaxLength {
		return credential.Sensitive{}, fmt.Errorf("generating a password of %d characters: the length must be from %d to %d", length, MinLength, MaxLength)
	}
	var characters string
	var classes []string
	switch alphabet {
	case Alphanumeric:
		characters = upper + lower + digits
	case WithSymbols:
		characters = upper + lower + digits + symbols
		classes = []string{upper, lower, digits, symbols}
	default:
		return credential.Sensitive{}, fmt.Errorf("generating a password: the alphabet must be %s or %s, not %q", Alphanumeric, WithSymbols, alphabet)
	}
	// About five of six draws of sixteen characters hold all four classes: a thousand failures in a row are not a coincidence.
	for range 1000 {
		password, err := draw(length, characters)
		if err != nil {
			return credential.Sensitive{}, err
		}
		if holdsAll(password, classes) {
			return credential.NewSensitive(password), nil
		}
	}
	return credential.Sensitive{}, errors.New("generating a password: this machine's random numbers are not random")
}

// draw picks characters without bias: it drops bytes beyond the last whole multiple of the alphabet's size.
func draw(length int, characters string) ([]byte, error) {
	limit := 256 - 256%len(characters)
	password := make([]byte, 0, length)
	random := make([]byte, length)
	for len(password) < length {
		if _, err := rand.Read(random); err != nil {
			return nil, fmt.Errorf("reading random numbers: %w", err)
		}
		for _, b := range random {
			if int(b) < limit && len(password) < length {
				password = append(password, characters[int(b)%len(characters)])
			}
		}
	}
	return password, nil
}

func holdsAll(password []byte, classes []string) bool {
	for _, class := range classes {
		if !bytes.ContainsAny(password, class) {
			return false
		}
	}
	return true
}
