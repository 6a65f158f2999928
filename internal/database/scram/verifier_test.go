// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/password"
)

// The example of RFC 7677 section 3: user "user", password "pencil".
func TestSCRAMVerifierMatchesTheRFC(t *testing.T) {
	salt := []byte("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
	got, err := verifierOf(credential.SensitiveString("pencil"), salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !IsVerifier(got) {
		t.Error("the verifier is not recognized as one")
	}
}

func TestSCRAMVerifierSaltsEachTime(t *testing.T) {
	first, err := Verifier(credential.SensitiveString("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Verifier(credential.SensitiveString("pencil"))
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two verifiers of one password are the same")
	}
}

func TestIsSCRAMVerifierRefusesWhatPostgreSQLWouldHash(t *testing.T) {
	good, err := Verifier(credential.SensitiveString("pencil"))
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
			if IsVerifier(text) {
				t.Error("accepted as a verifier")
			}
		})
	}
}

func TestLoginHoldsUsernamePasswordAndItsVerifier(t *testing.T) {
	login, err := Login("orders_app_a", 32, password.WithSymbols)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"password", "username", "verifier"}, login.Keys()); diff != "" {
		t.Error(diff)
	}
	if login.String(credential.KeyUsername) != "orders_app_a" || len(login.String(credential.KeyPassword)) != 32 || !IsVerifier(login.String(credential.KeyVerifier)) {
		t.Error("the login is not what was requested")
	}
}
