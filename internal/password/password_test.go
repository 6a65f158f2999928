// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package password

import (
	"strings"
	"testing"
)

func TestPasswordKeepsItsPromises(t *testing.T) {
	cases := map[string]struct {
		alphabet Alphabet
		allowed  string
		classes  []string
	}{
		"alphanumeric holds letters and digits only":                   {Alphanumeric, upper + lower + digits, nil},
		"with symbols holds at least one of each class and only those": {WithSymbols, upper + lower + digits + symbols, []string{upper, lower, digits, symbols}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for length := MinLength; length <= MaxLength; length++ {
				password, err := New(length, tc.alphabet)
				if err != nil {
					t.Fatal(err)
				}
				plain := string(password.Reveal())
				if len(plain) != length || strings.Trim(plain, tc.allowed) != "" || seen[plain] || !holdsAll([]byte(plain), tc.classes) {
					t.Fatalf("a password of length %d breaks the promise", length)
				}
				seen[plain] = true
			}
		})
	}
}

func TestPasswordRefusesASpecThatItCannotMeet(t *testing.T) {
	cases := map[string]struct {
		length   int
		alphabet Alphabet
	}{
		"too short":        {MinLength - 1, Alphanumeric},
		"too long":         {MaxLength + 1, Alphanumeric},
		"unknown alphabet": {32, "Emoji"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			password, err := New(tc.length, tc.alphabet)
			if err == nil || !password.IsEmpty() {
				t.Errorf("got a password or no error")
			}
		})
	}
}

// With 62 characters, 256,000 draws give each about 4,129 times, standard deviation 64: six of them is the band.
func TestPasswordCharactersAreEquallyLikely(t *testing.T) {
	count := map[rune]int{}
	for range 1000 {
		password, err := New(256, Alphanumeric)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range string(password.Reveal()) {
			count[c]++
		}
	}
	for _, c := range upper + lower + digits {
		if count[c] < 4129-6*64 || count[c] > 4129+6*64 {
			t.Errorf("%q was drawn %d times of 256000", c, count[c])
		}
	}
}
