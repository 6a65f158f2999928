// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

// A server with an expired or not yet valid certificate is checked every 30 seconds: the message must be the same each time,
// or each check causes a write of every status that shows it.
func TestACertificateOutsideItsValidityIsDescribedTheSameEachTime(t *testing.T) {
	authority, err := pgtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	text, _, err := authority.Issue([]string{"localhost"}, end)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	said := map[string]bool{}
	for _, at := range []time.Time{end.Add(time.Minute), end.Add(2 * time.Minute), certificate.NotBefore.Add(-time.Minute), certificate.NotBefore.Add(-2 * time.Minute)} {
		_, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at})
		if err == nil {
			t.Fatalf("the certificate verifies at %s", at)
		}
		said[certificateProblem(err)] = true
	}
	for text := range said {
		if len(said) > 1 || !strings.Contains(text, end.Format(time.RFC3339)) {
			t.Errorf("said: %s", text)
		}
	}
}
