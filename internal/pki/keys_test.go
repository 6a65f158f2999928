// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/dsa" //nolint:staticcheck // a kind of key that must be refused
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

func pemBlock(tb testing.TB, label string) func(der []byte, err error) []byte {
	tb.Helper()
	return func(der []byte, err error) []byte {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
	}
}

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(value T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return value
	}
}

func ecKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	return must[*ecdsa.PrivateKey](tb)(ecdsa.GenerateKey(curve, rand.Reader))
}

func TestNewKeyIsReadBackWithItsAlgorithm(t *testing.T) {
	for _, algorithm := range pki.KeyAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			key, err := pki.NewKey(algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(key.Reveal(), []byte("-----BEGIN PRIVATE KEY-----\n")) {
				t.Error("the key is not PKCS#8 in PEM")
			}
			signer, err := pki.ParseKey(key.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if got := pki.AlgorithmOf(signer.Public()); got != algorithm {
				t.Errorf("it is a key of %s", got)
			}
		})
	}
}

func TestNewKeyNeverReturnsTheSameKeyTwice(t *testing.T) {
	a := newKey(t, pki.ECDSAP256)
	b := newKey(t, pki.ECDSAP256)
	if bytes.Equal(a, b) {
		t.Error("two keys are equal")
	}
}

func newKey(tb testing.TB, algorithm pki.KeyAlgorithm) []byte {
	tb.Helper()
	key, err := pki.NewKey(algorithm)
	if err != nil {
		tb.Fatal(err)
	}
	return key.Reveal()
}

func TestTheAlgorithmsAreThoseOfTheIssuerContract(t *testing.T) {
	contract := []issuer.KeyAlgorithm{issuer.ECDSAP256, issuer.ECDSAP384, issuer.RSA2048, issuer.RSA3072, issuer.RSA4096, issuer.Ed25519}
	for i, algorithm := range pki.KeyAlgorithms() {
		if string(algorithm) != string(contract[i]) {
			t.Errorf("%s is %s in the contract", algorithm, contract[i])
		}
	}
	if len(contract) != len(pki.KeyAlgorithms()) {
		t.Error("the number of algorithms differs")
	}
	_, err := pki.NewKey("DSA-1024")
	if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.IdentityInvalid {
		t.Errorf("an unknown algorithm returns %v", err)
	}
}

func TestParseKeyReadsWhatOtherToolsWrite(t *testing.T) {
	rsaKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	sec1 := pemBlock(t, "EC PRIVATE KEY")(x509.MarshalECPrivateKey(ecKey(t, elliptic.P521())))
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for name, data := range map[string][]byte{
		"PKCS#1":                        pemBlock(t, "RSA PRIVATE KEY")(x509.MarshalPKCS1PrivateKey(rsaKey), nil),
		"SEC1":                          sec1,
		"SEC1 with parameters before":   slices.Concat(parameters, sec1),
		"PKCS#8 with text before":       append([]byte("Bag Attributes\n    friendlyName: app\n"), newKey(t, pki.ECDSAP256)...),
		"PKCS#8 with text after":        append(newKey(t, pki.ECDSAP256), "# the key of app\n"...),
		"PKCS#8 with empty lines after": append(newKey(t, pki.Ed25519), "\n\r\n"...),
		"PKCS#8 with Windows line ends": bytes.ReplaceAll(newKey(t, pki.ECDSAP256), []byte("\n"), []byte("\r\n")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := pki.ParseKey(data); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseKeyRefusesWithAReason(t *testing.T) {
	good := newKey(t, pki.ECDSAP256)
	block, _ := pem.Decode(good)
	middle := len(block.Bytes) / 2
	damaged := slices.Clone(block.Bytes)
	damaged[middle] ^= 0xff
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "is empty"},
		"white space":         {[]byte(" \n"), "is empty"},
		"no PEM":              {[]byte("hunter2"), "holds no PEM block"},
		"too long":            {bytes.Repeat(good, 500), "at most 65536 are allowed"},
		"a second key":        {slices.Concat(good, good), "followed by another PEM block"},
		"three blocks":        {slices.Concat(good, good, good), "continues after 2"},
		"cut short":           {good[:len(good)/2], "holds no PEM block"},
		"a damaged first one": {slices.Concat(good[:len(good)/2], []byte("\n"), good), "damaged PEM block at position 1"},
		"damaged DER":         {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:middle]}), "cannot be decoded as PKCS#8"},
		"wrong label":         {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: block.Bytes}), "cannot be decoded as PKCS#1"},
		"encrypted PKCS#8":    {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: block.Bytes}), "store it without a passphrase"},
		"encrypted PKCS#1":    {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES-128-CBC,00"}, Bytes: block.Bytes}), "store it without a passphrase"},
		"a certificate":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}), "a certificate instead of the private key"},
		"a public key":        {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes}), "is not a private key"},
		"a weak curve":        {pemBlock(t, "EC PRIVATE KEY")(x509.MarshalECPrivateKey(ecKey(t, elliptic.P224()))), "curve P-224 is refused"},
		"a short RSA key":     {shortRSA(t), "1024 bits is refused"},
		"an X25519 key":       {pemBlock(t, "PRIVATE KEY")(x509.MarshalPKCS8PrivateKey(must[*ecdh.PrivateKey](t)(ecdh.X25519().GenerateKey(rand.Reader)))), "cannot sign"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := pki.ParseKey(tc.data)
			if err == nil || key != nil {
				t.Fatal("it was accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %q, want it to say %q", err, tc.want)
			}
			wantNoKey(t, err.Error(), good)
		})
	}
}

func shortRSA(t *testing.T) []byte {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	return pemBlock(t, "RSA PRIVATE KEY")(x509.MarshalPKCS1PrivateKey(key), nil)
}

// wantNoKey fails if a text contains any line of a private key, or the word that the tests use as a secret.
func wantNoKey(tb testing.TB, text string, keyPEM []byte) {
	tb.Helper()
	if strings.Contains(text, "hunter2") {
		tb.Errorf("the text shows the content that replaced the key: %s", text)
	}
	for line := range strings.SplitSeq(string(keyPEM), "\n") {
		// Only base64 counts: messages quote commands, and the line that starts a PEM block.
		if len(line) >= 16 && !strings.ContainsAny(line[:16], "- ") && strings.Contains(text, line[:16]) {
			tb.Error("the text shows a line of the key")
		}
	}
}

func TestCheckPublicKeyAcceptsThreeKinds(t *testing.T) {
	if err := pki.CheckPublicKey(&dsa.PublicKey{}); err == nil {
		t.Error("a DSA key is accepted")
	}
	if got := pki.AlgorithmOf(&dsa.PublicKey{}); got != "unknown" {
		t.Errorf("its algorithm is %s", got)
	}
	if got := pki.AlgorithmOf(&ecKey(t, elliptic.P521()).PublicKey); got != "ECDSA-P521" {
		t.Errorf("P-521 is called %s", got)
	}
}

func TestSubjectKeyIDIsTheTruncatedHashOfTheKeyBits(t *testing.T) {
	// RFC 7093, section 2, method 1, for an uncompressed point; crypto/x509 does the same for authorities.
	key := ecKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big1, IsCA: true, BasicConstraintsValid: true}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	certificate := must[*x509.Certificate](t)(x509.ParseCertificate(der))
	id := must[[]byte](t)(pki.SubjectKeyID(&key.PublicKey))
	if len(id) != 20 || !bytes.Equal(id, certificate.SubjectKeyId) {
		t.Errorf("the identifier is %x, want %x", id, certificate.SubjectKeyId)
	}
	if _, err := pki.SubjectKeyID("no key"); err == nil {
		t.Error("a string has an identifier")
	}
}

func TestRequestsCarryNamesAndTheirOwnSignature(t *testing.T) {
	names := must[pki.Names](t)(pki.ParseNames("app", []string{"Example"}, []string{"B.example.internal", "a.example.internal"},
		[]string{"spiffe://example.internal/app"}, []string{"10.0.0.1"}, []string{"ops@Example.com"}))
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.Ed25519} {
		key, err := pki.NewKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		request, err := pki.ParseRequest(must[[]byte](t)(pki.NewRequest(key, names)))
		if err != nil {
			t.Fatal(err)
		}
		if got := pki.AlgorithmOf(request.PublicKey); got != algorithm {
			t.Errorf("the request is for a key of %s, want %s", got, algorithm)
		}
		got := fmt.Sprint(request.Subject, request.DNSNames, request.URIs, request.IPAddresses, request.EmailAddresses)
		if want := "CN=app,O=Example [a.example.internal b.example.internal] [spiffe://example.internal/app] [10.0.0.1] [ops@example.com]"; got != want {
			t.Errorf("the request is for %s, want %s", got, want)
		}
	}
}
