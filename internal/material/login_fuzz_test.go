// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
)

// FuzzLogin makes verifiers of passwords, and URIs of logins. A verifier is well-formed, or refused without a word of the
// password; a URI is read back by a driver, and whatever the names and passwords hold, it means the same.
func FuzzLogin(f *testing.F) {
	for _, seed := range []string{"pencil", "", "p\u00e4ssword", "a\x00b", strings.Repeat("x", 300), " ", "$:\\'\""} {
		f.Add("orders_app_a", seed, "orders", false)
	}
	f.Add("orders_app_a", "Abc-_.~+,=@^1", "orders", true)
	f.Add("a/b@c", "p:%2f@?#&'\" \\", "or/ders?x=1", true)
	f.Fuzz(func(t *testing.T, username, password, database string, v6 bool) {
		tryVerifier(t, password)
		for _, text := range []string{username, password, database} {
			if text == "" || strings.ContainsRune(text, 0) {
				return
			}
		}
		host := "db.example.com"
		if v6 {
			host = "::1"
		}
		login := credential.Material{credential.KeyUsername: credential.SensitiveString(username), credential.KeyPassword: credential.SensitiveString(password)}
		data := ServiceBinding(login, Binding{Host: host, Port: 5433, Database: database, SSLMode: "verify-full"})
		config, err := pgconn.ParseConfig(strings.Replace(string(data["uri"]), "sslmode=verify-full", "sslmode=require", 1))
		if err != nil {
			t.Fatalf("the URI %q does not parse", data["uri"])
		}
		got := []string{config.User, config.Password, config.Database, config.Host}
		if diff := cmp.Diff([]string{username, password, database, host}, got); diff != "" {
			t.Errorf("%q: %s", data["uri"], diff)
		}
	})
}

func tryVerifier(t *testing.T, password string) {
	t.Helper()
	verifier, err := SCRAMVerifier(credential.SensitiveString(password))
	if err != nil {
		if len(password) > 8 && strings.Contains(err.Error(), password) {
			t.Error("the error holds the password")
		}
		return
	}
	if !IsSCRAMVerifier(verifier) {
		t.Errorf("malformed: %q", verifier)
	}
}
