// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/rekey/rekey/internal/credential"
)

// Alphabet says which characters a password is made of. The words are those of the DatabaseCredential kind.
type Alphabet string

const (
	// Alphanumeric is A-Z, a-z and 0-9: safe in every file format, URI and shell without quoting.
	Alphanumeric Alphabet = "Alphanumeric"
	// WithSymbols adds - _ . ~ , = * and promises at least one upper case letter, lower case letter, digit and symbol.
	// None of them needs an escape in the userinfo of a URI, in .pgpass, or inside quotes of a shell or of libpq.
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
	MinPasswordLength = 16
	MaxPasswordLength = 256
)

// Password makes a password of length characters, each equally likely; of WithSymbols those are drawn again that lack
// one of the four classes.
func Password(length int, alphabet Alphabet) (credential.Sensitive, error) {
	if length < MinPasswordLength || length > MaxPasswordLength {
		return credential.Sensitive{}, fmt.Errorf("making a password of %d characters: the length must be from %d to %d", length, MinPasswordLength, MaxPasswordLength)
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
		return credential.Sensitive{}, fmt.Errorf("making a password: the alphabet must be %s or %s, not %q", Alphanumeric, WithSymbols, alphabet)
	}
	// Sixteen characters hold all four classes in about five draws of six: a thousand draws that fail are no accident.
	for range 1000 {
		password, err := draw(length, characters)
		if err != nil {
			return credential.Sensitive{}, err
		}
		if holdsAll(password, classes) {
			return credential.NewSensitive(password), nil
		}
	}
	return credential.Sensitive{}, errors.New("making a password: the random numbers of this machine are not random")
}

// draw picks characters without bias: a byte beyond the last whole multiple of the alphabet's size is thrown away.
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
