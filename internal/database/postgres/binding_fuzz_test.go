// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
)

// FuzzBinding builds URIs of logins. A driver reads the URI back, and whatever the names and passwords hold, it means the same.
func FuzzBinding(f *testing.F) {
	for _, seed := range []string{"pencil", "", "p\u00e4ssword", "a\x00b", strings.Repeat("x", 300), " ", "$:\\'\""} {
		f.Add("orders_app_a", seed, "orders", false)
	}
	f.Add("orders_app_a", "Abc-_.~+,=@^1", "orders", true)
	f.Add("a/b@c", "p:%2f@?#&'\" \\", "or/ders?x=1", true)
	f.Fuzz(func(t *testing.T, username, password, name string, v6 bool) {
		for _, text := range []string{username, password, name} {
			if text == "" || strings.ContainsRune(text, 0) {
				return
			}
		}
		host := "db.example.com"
		if v6 {
			host = "::1"
		}
		login := credential.Material{credential.KeyUsername: credential.SensitiveString(username), credential.KeyPassword: credential.SensitiveString(password)}
		data := binding(database.Server{Host: host, Port: 5433, TLS: database.TLSVerifyFull}, login, name)
		config, err := pgconn.ParseConfig(strings.Replace(string(data["uri"]), "sslmode=verify-full", "sslmode=require", 1))
		if err != nil {
			t.Fatalf("the URI %q does not parse", data["uri"])
		}
		got := []string{config.User, config.Password, config.Database, config.Host}
		if diff := cmp.Diff([]string{username, password, name, host}, got); diff != "" {
			t.Errorf("%q: %s", data["uri"], diff)
		}
	})
}
