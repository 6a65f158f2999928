// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/fault"
)

const address = "orders-db.data:5432"

func TestAdminSecretIsUsedOnlyWhenItAllowsThatAndNamesTheServer(t *testing.T) {
	allowed := map[string]string{"rekey.dev/allow": "true"}
	good := map[string][]byte{"username": []byte("admin"), "password": []byte(canary), "host": []byte(address)}
	with := func(key, value string) map[string][]byte {
		data := maps.Clone(good)
		data[key] = []byte(value)
		return data
	}
	without := func(key string) map[string][]byte {
		data := maps.Clone(good)
		delete(data, key)
		return data
	}
	cases := map[string]struct {
		labels map[string]string
		data   map[string][]byte
		reason fault.Reason
		says   string
	}{
		"as required":                         {allowed, good, "", ""},
		"a line break after the host":         {allowed, with("host", address+"\n"), "", ""},
		"no label":                            {nil, good, fault.SecretNotAllowed, "label secret admin rekey.dev/allow=true"},
		"a label with another value":          {map[string]string{"rekey.dev/allow": "false"}, good, fault.SecretNotAllowed, "label secret admin"},
		"no label, and nothing in it either":  {nil, nil, fault.SecretNotAllowed, "label secret admin"},
		"no password":                         {allowed, without("password"), fault.SecretInvalid, "key password"},
		"an empty username":                   {allowed, with("username", ""), fault.SecretInvalid, "key username"},
		"no host":                             {allowed, without("host"), fault.SecretInvalid, "key host"},
		"too long":                            {allowed, with("password", strings.Repeat(canary, 5000)), fault.SecretInvalid, "at most"},
		"another host":                        {allowed, with("host", "evil.example:5432"), fault.HostMismatch, "exactly " + address},
		"another port":                        {allowed, with("host", "orders-db.data:5433"), fault.HostMismatch, address},
		"a host with the same prefix":         {allowed, with("host", address+".evil"), fault.HostMismatch, address},
		"a password where the host should be": {allowed, with("host", canary), fault.HostMismatch, address},
	}
	w := newWorld(t)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "admin", Labels: tc.labels}, Data: tc.data})
			defer w.drop(t, "admin")
			material, err := ReadAdmin(t.Context(), w.Client, w.namespace, "admin", address)
			if tc.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"password", "username"}, material.Keys()); diff != "" || material.String("password") != canary {
					t.Error("the login is not what the Secret holds")
				}
				return
			}
			expectFault(t, err, fault.ClassBlocked, tc.reason)
			if material != nil {
				t.Error("part of it was returned")
			}
			if !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), w.namespace) || strings.Contains(err.Error(), "evil") {
				t.Errorf("error %q does not contain %q, or quotes the Secret", err, tc.says)
			}
		})
	}
	_, err := ReadAdmin(t.Context(), w.Client, w.namespace, "absent", address)
	expectFault(t, err, fault.ClassBlocked, fault.SecretNotFound)
	w.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "admin", Labels: allowed}, Data: good})
	if material, err := ReadAdmin(t.Context(), w.Client, w.namespace, "admin", ""); err == nil || material != nil {
		t.Error("an admin login was returned for an empty address")
	}
}

func TestLedgerNameIsValidAndDerivedFromKindAndName(t *testing.T) {
	long := strings.Repeat("a", 200) + "." + strings.Repeat("b", 52)
	names := map[string]bool{}
	for _, kind := range []string{"DatabaseCredential", "Other"} {
		for _, name := range []string{"orders", "orders.x", long, long[:252] + "c", long[:len(long)-1], strings.Repeat("a.", 126) + "a"} {
			got := LedgerName(kind, name)
			if names[got] {
				t.Errorf("%q is the name of two ledgers", got)
			}
			names[got] = true
			if got != LedgerName(kind, name) {
				t.Error("the name changes")
			}
		}
	}
	w := newWorld(t)
	for name := range names {
		w.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	if got := LedgerName("DatabaseCredential", "orders"); !strings.HasPrefix(got, "rekey-databasecredential-orders-") {
		t.Errorf("a user cannot tell whose %q is", got)
	}
}

func TestOwnerIsReadFromASecret(t *testing.T) {
	w := newWorld(t)
	w.published(t, w.ledgerOptions("orders"))
	for _, name := range []string{shown, w.ledgerName("orders")} {
		kind, object, ok := OwnerOf(w.secret(t, name))
		if kind != "DatabaseCredential" || object != "orders" || !ok {
			t.Errorf("%s belongs to %s/%s, %v", name, kind, object, ok)
		}
	}
	if _, _, ok := OwnerOf(&corev1.Secret{}); ok {
		t.Error("a Secret without an owner has one")
	}
}
