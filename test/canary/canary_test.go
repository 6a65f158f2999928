// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
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

func document(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASecretIsFoundInEveryForm(t *testing.T) {
	secrets := map[string][]byte{"a password": []byte("hW3kQz81mTnB5sXc7vLpYd2RjF9gAe4U"), "a key": privateKey(t),
		"a password with symbols": []byte("hW3k\"Qz8'1mTn\\B5s&Xc7<vL/pYd+2RjF")}
	forms := map[string]func(secret []byte) string{
		"unchanged":          func(s []byte) string { return "log " + string(s) + " log" },
		"in JSON":            func(s []byte) string { return document(t, map[string]string{"v": string(s)}) },
		"as data of Secrets": func(s []byte) string { return document(t, map[string][]byte{"v": s}) },
		"in base64":          base64.StdEncoding.EncodeToString,
		"in hexadecimal":     hex.EncodeToString,
		"as Go prints bytes": func(s []byte) string { return fmt.Sprintf("%v", s) },
		"in capitals":        func(s []byte) string { return strings.ToUpper(hex.EncodeToString(s)) },
		"in a URL":           func(s []byte) string { return "https://example.com/?v=" + url.QueryEscape(string(s)) },
		"in JSON in JSON":    func(s []byte) string { return inJSON(inJSON(string(s))) },
		"one byte later":     func(s []byte) string { return base64.StdEncoding.EncodeToString(append([]byte("x"), s...)) },
		"two bytes later":    func(s []byte) string { return base64.URLEncoding.EncodeToString(append([]byte("xy"), s...)) },
		"in SQL":             func(s []byte) string { return "PASSWORD '" + strings.ReplaceAll(string(s), "'", "''") + "'" },
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

func TestAnotherKeyIsNotReported(t *testing.T) {
	for range 50 {
		found := Search(map[string][]byte{"a key": privateKey(t)}, map[string]string{"the log": string(privateKey(t))})
		if len(found) > 0 {
			t.Fatalf("found %q in the text of another key", found)
		}
	}
}

// The secret part of a key is a number, and a number can be printed alone.
func TestTheNumbersInAKeyAreFound(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := curve.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	primes, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key    crypto.Signer
		number []byte
	}{
		"the scalar of a curve":        {curve, scalar},
		"the seed of Ed25519":          {edwards, edwards.Seed()},
		"the private exponent of RSA":  {primes, primes.D.Bytes()},
		"the second prime of RSA":      {primes, primes.Primes[1].Bytes()},
		"the DER of a key, as a whole": {curve, derOf(t, curve)},
	} {
		secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: derOf(t, tc.key)})
		for form, text := range map[string]string{
			"in hexadecimal": hex.EncodeToString(tc.number), "in base64": base64.StdEncoding.EncodeToString(tc.number),
			"in decimal": new(big.Int).SetBytes(tc.number).String(), "raw": string(tc.number),
		} {
			if name == "the DER of a key, as a whole" && (form == "in decimal" || form == "raw") {
				continue
			}
			if name == "the seed of Ed25519" && form == "in decimal" {
				continue // It is not used as a number.
			}
			if found := Search(map[string][]byte{"the key": secret}, map[string]string{"the log": "log " + text + " log"}); len(found) != 1 {
				t.Errorf("%s %s was not found", name, form)
			}
		}
	}
}

func derOf(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
