// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuertest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/issuer"
)

// OpenSSLVerify runs "openssl verify -x509_strict" on a chain, for one usage, at a given time. partial allows a trust anchor
// that is not self-signed.
func OpenSSLVerify(tb testing.TB, chain issuer.Chain, usage issuer.Usage, at time.Time, partial bool) error {
	tb.Helper()
	args := []string{"-x509_strict"}
	if partial {
		args = append(args, "-partial_chain")
	}
	return OpenSSLJudge(tb, chain, usage, at, args...)
}

// OpenSSLJudge runs "openssl verify" on a chain, for one usage, at a given time, with additional arguments.
func OpenSSLJudge(tb testing.TB, chain issuer.Chain, usage issuer.Usage, at time.Time, further ...string) error {
	tb.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		tb.Fatal("the command openssl is missing; run hack/install-deps.sh test")
	}
	folder := tb.TempDir()
	leaf, rest := pem.Decode(chain.Certificates)
	if leaf == nil {
		return fmt.Errorf("the chain is not PEM")
	}
	for name, data := range map[string][]byte{"leaf.pem": pem.EncodeToMemory(leaf), "chain.pem": rest, "ca.pem": chain.Authorities} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	purpose := map[issuer.Usage]string{issuer.ClientAuth: "sslclient", issuer.ServerAuth: "sslserver"}[usage]
	args := append([]string{"verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-purpose", purpose,
		"-attime", strconv.FormatInt(at.Unix(), 10), "-CAfile", "ca.pem"}, further...)
	if len(bytes.TrimSpace(rest)) > 0 {
		args = append(args, "-untrusted", "chain.pem")
	}
	command := exec.CommandContext(tb.Context(), openssl, append(args, "leaf.pem")...)
	command.Dir = folder
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}

// weakRequest returns a request signed with a 1024-bit RSA key.
func weakRequest(t *testing.T) []byte {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
