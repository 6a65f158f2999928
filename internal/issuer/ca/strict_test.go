// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

// strictCommands returns the commands of the runbook that sign a key again for strict peers.
func strictCommands(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "runbooks", "AuthorityInvalid.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## Strict peers")
	_, block, fenced := strings.Cut(section, "```sh\n")
	commands, _, closed := strings.Cut(block, "```")
	if !found || !fenced || !closed {
		t.Fatal("the runbook has no commands for strict peers")
	}
	return commands
}

// From a root that strict peers refuse, the runbook's commands create one that they accept, for the same key and with the
// same subject and identifier: nothing is reissued, and everything that was issued verifies with it.
func TestTheRunbookMakesARootThatStrictPeersAccept(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"no key usage": withoutKeyUsage,
		"basic constraints that are not critical": loose,
		"no key usage, loose basic constraints":   func(c *x509.Certificate) { withoutKeyUsage(c); loose(c) },
		"no key identifier": func(c *x509.Certificate) { // crypto/x509 writes one into every CA that is flagged as one
			loose(c)
			c.SubjectKeyId = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			// openssl signs with today's date, whatever the date of the other tests is.
			today := time.Now().UTC()
			root := makeAuthority(t, "Root CA", nil, pki.ECDSAP256, nil)
			classic, err := pki.ClassicKeyID(root.certificate.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			root = root.again(t, nil, func(c *x509.Certificate) { // the identifier that openssl uses
				c.SubjectKeyId, c.NotBefore, c.NotAfter = classic, today.Add(-time.Hour), today.Add(1000*time.Hour)
				change(c)
			})
			before, err := opened(root.pem(), root.keyPEM, nil, constraints(), today)
			if err != nil || len(before.Notes) == 0 {
				t.Fatalf("the notes are %q, %v", before.Notes, err)
			}
			chain, err := before.Issue(t.Context(), issuertest.Harness{Now: today}.Request(t, pki.ECDSAP256, issuer.Names{CommonName: "app-a"}, issuer.ClientAuth))
			if err != nil {
				t.Fatal(err)
			}
			folder := t.TempDir()
			for file, data := range map[string][]byte{"tls.crt": root.pem(), "tls.key": root.keyPEM} {
				if err := os.WriteFile(filepath.Join(folder, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			shell := exec.CommandContext(t.Context(), "sh", "-e", "-c", strictCommands(t))
			shell.Dir = folder
			if out, err := shell.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			renewed, err := os.ReadFile(filepath.Join(folder, "new.crt"))
			if err != nil {
				t.Fatal(err)
			}
			after, err := opened(renewed, root.keyPEM, nil, constraints(), today)
			if err != nil {
				t.Fatal(err)
			}
			if len(after.Notes) > 0 || !bytes.Equal(after.KeyID, before.KeyID) || after.Subject != before.Subject {
				t.Errorf("the notes are %q; its key is %x, and was %x", after.Notes, after.KeyID, before.KeyID)
			}
			chain.Authorities = renewed
			if err := issuertest.OpenSSLJudge(t, chain, issuer.ClientAuth, time.Now().Add(time.Minute), "-x509_strict"); err != nil {
				t.Errorf("what was issued before does not verify with it: %v", err)
			}
		})
	}
}
