// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// content is what goes into keystores: a leaf below an intermediate, and two trust anchors.
type content struct {
	key            crypto.Signer
	chain, anchors []*x509.Certificate
	data           map[string][]byte
}

func newContent(t *testing.T, algorithm pki.KeyAlgorithm) content {
	t.Helper()
	root, rootKey := sign(t, "root", pki.ECDSAP256, nil, nil)
	other, _ := sign(t, "another root", pki.ECDSAP256, nil, nil)
	middle, middleKey := sign(t, "middle", pki.ECDSAP256, root, rootKey)
	leaf, leafKey := sign(t, "leaf", algorithm, middle, middleKey)
	out := content{key: leafKey, chain: []*x509.Certificate{leaf, middle}, anchors: []*x509.Certificate{root, other}}
	out.data = map[string][]byte{
		credential.KeyCertificate: pki.EncodeCertificates(out.chain...), credential.KeyAuthority: pki.EncodeCertificates(out.anchors...),
		credential.KeyPrivateKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, leafKey)}),
	}
	return out
}

// sign returns a certificate signed by above, or on its own.
func sign(t *testing.T, name string, algorithm pki.KeyAlgorithm, above *x509.Certificate, signer crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	secret, err := pki.NewKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.ParseKey(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.Add(time.Hour),
		BasicConstraintsValid: true, IsCA: name != "leaf", KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if above == nil {
		above, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sum returns the SHA-256 of values, as testdata/Read.java prints it.
func sum(values ...[]byte) string {
	digest := sha256.Sum256(slices.Concat(values...))
	return hex.EncodeToString(digest[:])
}

func raw(certificates []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, certificate := range certificates {
		out = append(out, certificate.Raw)
	}
	return out
}

// store writes the files to a folder and returns it.
func store(t *testing.T, files map[string][]byte) string {
	t.Helper()
	folder := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// run runs a program, which must exist, and returns what it prints.
func run(t *testing.T, folder, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("the command %s was not found; run hack/install-deps.sh test java", name)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir = folder
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// asJava returns what Java reads in keystores of a folder, by file name: its lines, without the name. The arguments are type, file
// and password of each.
func asJava(t *testing.T, folder string, keystores ...string) map[string][]string {
	t.Helper()
	program, err := filepath.Abs("testdata/Read.java")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", program}, keystores...)
	said, err := run(t, folder, "java", args...)
	if err != nil {
		t.Fatalf("reading with Java: %v: %s", err, said)
	}
	out := map[string][]string{}
	for line := range strings.Lines(said) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[file] = append(out[file], rest)
	}
	return out
}

// blocks returns the PEM blocks of one kind in a text, in order.
func blocks(text, kind string) [][]byte {
	var out [][]byte
	rest := []byte(text)
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			return out
		}
		if block.Type == kind {
			out = append(out, block.Bytes)
		}
		rest = after
	}
}
