// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
)

func TestPasswordKeepsItsPromises(t *testing.T) {
	cases := map[string]struct {
		alphabet Alphabet
		allowed  string
		classes  []string
	}{
		"alphanumeric holds letters and digits only":                          {Alphanumeric, upper + lower + digits, nil},
		"with symbols holds at least one of each class and nothing but those": {WithSymbols, upper + lower + digits + symbols, []string{upper, lower, digits, symbols}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for length := MinPasswordLength; length <= MaxPasswordLength; length++ {
				password, err := Password(length, tc.alphabet)
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

func TestPasswordRefusesWhatItCannotMake(t *testing.T) {
	cases := map[string]struct {
		length   int
		alphabet Alphabet
	}{
		"too short":        {MinPasswordLength - 1, Alphanumeric},
		"too long":         {MaxPasswordLength + 1, Alphanumeric},
		"unknown alphabet": {32, "Emoji"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			password, err := Password(tc.length, tc.alphabet)
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
		password, err := Password(256, Alphanumeric)
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

// The example of RFC 7677 section 3: user "user", password "pencil".
func TestSCRAMVerifierMatchesTheRFC(t *testing.T) {
	salt := []byte("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
	got, err := scramVerifier(credential.SensitiveString("pencil"), salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !IsSCRAMVerifier(got) {
		t.Error("the verifier is not recognised as one")
	}
}

func TestSCRAMVerifierSaltsEachTime(t *testing.T) {
	first, err := SCRAMVerifier(credential.SensitiveString("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := SCRAMVerifier(credential.SensitiveString("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two verifiers of one password are the same")
	}
}

func TestIsSCRAMVerifierRefusesWhatPostgreSQLWouldHash(t *testing.T) {
	good, err := SCRAMVerifier(credential.SensitiveString("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"cut short":       good[:len(good)-1],
		"a quote at end":  good + "'",
		"a line at end":   good + "\n",
		"no iterations":   strings.Replace(good, "$4096:", "$:", 1),
		"text around it":  " " + good,
		"too few":         "SCRAM-SHA-256$4096:bad",
		"other mechanism": strings.Replace(good, "256", "512", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if IsSCRAMVerifier(text) {
				t.Error("taken as a verifier")
			}
		})
	}
}

func TestLoginHoldsUsernamePasswordAndItsVerifier(t *testing.T) {
	login, err := Login("orders_app_a", 32, WithSymbols)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"password", "username", "verifier"}, login.Keys()); diff != "" {
		t.Error(diff)
	}
	if login.String(credential.KeyUsername) != "orders_app_a" || len(login.String(credential.KeyPassword)) != 32 || !IsSCRAMVerifier(login.String(credential.KeyVerifier)) {
		t.Error("the login is not what was asked for")
	}
}

func TestServiceBindingHoldsEveryKey(t *testing.T) {
	login := credential.Material{credential.KeyUsername: credential.SensitiveString("orders_app_a"), credential.KeyPassword: credential.SensitiveString("S3cret@x")}
	got := map[string]string{}
	for key, value := range ServiceBinding(login, Binding{Host: "db.data", Port: 5432, Database: "orders", SSLMode: "verify-full", Certificates: []byte("PEM")}) {
		got[key] = string(value)
	}
	want := map[string]string{
		"type": "postgresql", "provider": "rekey", "host": "db.data", "port": "5432", "database": "orders", "username": "orders_app_a",
		"password": "S3cret@x", "sslmode": "verify-full", "certificates": "PEM",
		"uri": "postgresql://orders_app_a:S3cret%40x@db.data:5432/orders?sslmode=verify-full",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := url.Parse(got["uri"]); err != nil {
		t.Error(err)
	}
}
