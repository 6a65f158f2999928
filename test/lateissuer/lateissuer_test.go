// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lateissuer_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/lateissuer"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 500, time.UTC)

func open(t *testing.T) *issuer.Authority {
	t.Helper()
	server, err := lateissuer.New(now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := lateissuer.Opener{Server: server}.Open(t.Context(), issuer.Config{
		Secret: lateissuer.Secret(), Now: now,
		Constraints: issuer.Constraints{
			MaxLifetime: 720 * time.Hour, CommonNames: []string{"app-*"}, DNSNames: []string{"*.example.internal"},
			Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func harness(t *testing.T) issuertest.Harness {
	t.Helper()
	authority := open(t)
	return issuertest.Harness{
		Issuer: authority, Profile: authority.Profile, Now: now, Expires: authority.NotAfter, MaxLifetime: 720 * time.Hour,
		Client: issuer.Names{CommonName: "app-client"},
		Server: issuer.Names{CommonName: "app-server", DNSNames: []string{"app.example.internal"}},
		Denied: issuer.Names{CommonName: "app-client", DNSNames: []string{"www.example.com"}},
	}
}

func TestAnIssuerThatAnswersLaterSatisfiesTheContract(t *testing.T) {
	issuertest.Run(t, harness(t))
}

// Two certificates of one issuer may name different keys, and neither differs from what was requested.
func TestItSignsWithTwoKeysInTurn(t *testing.T) {
	h := harness(t)
	var keys [][]byte
	for _, id := range []string{"one", "two"} {
		request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
		request.ID = id
		if _, err := h.Issuer.Issue(t.Context(), request); err == nil {
			t.Fatal("it answers at once")
		}
		chain, err := h.Issuer.Issue(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		candidate := h.Candidate(t, pki.ECDSAP256, request, chain)
		certificates, err := pki.ParseCertificates(chain.Certificates)
		if err != nil {
			t.Fatal(err)
		}
		if found := pki.Diff(certificates[0], candidate.Identity, h.Expires); len(found) > 0 {
			t.Errorf("certificate %s differs: %v", id, found)
		}
		keys = append(keys, certificates[0].AuthorityKeyId)
	}
	if bytes.Equal(keys[0], keys[1]) {
		t.Errorf("both name the key %x", keys[0])
	}
}
