// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Usage is the purpose of a leaf.
type Usage string

// The usages, as openssl verify names them.
const (
	Server Usage = "sslserver"
	Client Usage = "sslclient"
)

// Question asks whether there is a path from a leaf to a trust anchor. The files are as a peer reads them, however odd.
type Question struct {
	Leaf, Untrusted, Trusted []byte
	Usage                    Usage
	At                       time.Time
	// Partial allows a trust anchor that is not self-signed; Strict adds OpenSSL's format checks (-x509_strict).
	Partial, Strict bool
}

// Judge answers questions: nil means yes, an error is the reason for a no.
type Judge func(testing.TB, Question) error

// Go is crypto/x509. It skips what it cannot read of a file, as crypto/tls and CertPool do.
func Go(_ testing.TB, q Question) error {
	block, _ := pem.Decode(q.Leaf)
	if block == nil {
		return fmt.Errorf("the leaf is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(q.Trusted)
	intermediates.AppendCertsFromPEM(q.Untrusted)
	usage := map[Usage]x509.ExtKeyUsage{Server: x509.ExtKeyUsageServerAuth, Client: x509.ExtKeyUsageClientAuth}[q.Usage]
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: q.At, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// OpenSSL is the command openssl verify.
func OpenSSL(tb testing.TB, q Question) error {
	tb.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		tb.Fatal("the command openssl was not found; run hack/install-deps.sh test")
	}
	folder := tb.TempDir()
	for name, data := range map[string][]byte{"leaf": q.Leaf, "untrusted": q.Untrusted, "trusted": q.Trusted} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	args := []string{"verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-purpose", string(q.Usage),
		"-attime", strconv.FormatInt(q.At.Unix(), 10), "-CAfile", "trusted"}
	if len(bytes.TrimSpace(q.Untrusted)) > 0 {
		args = append(args, "-untrusted", "untrusted")
	}
	if q.Partial {
		args = append(args, "-partial_chain")
	}
	if q.Strict {
		args = append(args, "-x509_strict")
	}
	command := exec.CommandContext(tb.Context(), path, append(args, "leaf")...)
	command.Dir = folder
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(string(output)), " "))
	}
	return nil
}

// Path asks Java's CertPathBuilder (PKIX). It ignores extended key usages.
func (j *Java) Path(tb testing.TB, q Question) error {
	tb.Helper()
	return j.ask(tb, "path", millis(q.At), encoded(q.Trusted), encoded(q.Untrusted), encoded(q.Leaf))
}

// Talk makes a client and a server of Java (JSSE), both with the same identity, shake hands and authenticate each other:
// with TLS version (TLSv1.2, TLSv1.3), and host as the name that the client expects.
func (j *Java) Talk(tb testing.TB, at time.Time, version string, chain, key, trusted []byte, host string) error {
	tb.Helper()
	block, _ := pem.Decode(key)
	if block == nil {
		return fmt.Errorf("the key is not PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	algorithm := "Ed25519"
	switch name := fmt.Sprintf("%T", private); name {
	case "*rsa.PrivateKey":
		algorithm = "RSA"
	case "*ecdsa.PrivateKey":
		algorithm = "EC"
	}
	return j.ask(tb, "talk", millis(at), version, encoded(chain), encoded(block.Bytes), algorithm, encoded(trusted), host)
}
