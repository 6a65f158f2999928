// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

func privateKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func inJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASecretIsFoundInEveryFormInWhichItCouldLeak(t *testing.T) {
	secrets := map[string][]byte{"a password": []byte("hW3kQz81mTnB5sXc7vLpYd2RjF9gAe4U"), "a key": privateKey(t)}
	forms := map[string]func(secret []byte) string{
		"as it is":           func(s []byte) string { return "log " + string(s) + " log" },
		"in JSON":            func(s []byte) string { return inJSON(t, map[string]string{"v": string(s)}) },
		"as data of Secrets": func(s []byte) string { return inJSON(t, map[string][]byte{"v": s}) },
		"in base64":          base64.StdEncoding.EncodeToString,
		"in hexadecimal":     hex.EncodeToString,
		"as Go prints bytes": func(s []byte) string { return fmt.Sprintf("%v", s) },
	}
	for name, form := range forms {
		for what, secret := range secrets {
			t.Run(what+" "+name, func(t *testing.T) {
				found := Search(map[string][]byte{what: secret}, map[string]string{"the log": form(secret)})
				if len(found) != 1 || strings.Contains(found[0], string(secret)) {
					t.Errorf("found %q in %q, want one line that does not show it", found, form(secret))
				}
			})
		}
	}
}

func TestOneKeyIsNotTakenForAnother(t *testing.T) {
	for range 50 {
		found := Search(map[string][]byte{"a key": privateKey(t)}, map[string]string{"the log": string(privateKey(t))})
		if len(found) > 0 {
			t.Fatalf("found %q in the text of another key", found)
		}
	}
}
