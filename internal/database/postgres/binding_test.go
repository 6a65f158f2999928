// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
)

func TestTheBindingHoldsEveryKey(t *testing.T) {
	login := credential.Material{credential.KeyUsername: credential.SensitiveString("orders_app_a"), credential.KeyPassword: credential.SensitiveString("S3cret@x")}
	got := map[string]string{}
	for key, value := range binding(database.Server{Host: "db.data", Port: 5432, TLS: database.TLSVerifyFull, CA: []byte("PEM")}, login, "orders") {
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
