// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/pki"
)

// habit is how an issuer that is not rekey's own signs.
type habit struct {
	habits pki.Habits
	// change makes a leaf of rekey's own authority one of this issuer.
	change func(*x509.Certificate)
	// usages are those that were requested.
	usages []pki.Usage
	// own is what is found if the certificate is judged by the habits of rekey's own authority.
	own []string
}

func backdated(c *x509.Certificate, by time.Duration) { c.NotBefore = now.Add(-by) }

// habitsOfOthers are the defaults of the issuers as of 2026.
func habitsOfOthers() map[string]habit {
	serverAndClient := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return map[string]habit{
		"Vault, whose default role adds both usages of TLS, key encipherment and key agreement": {
			habits: pki.Habits{Backdate: 30 * time.Second, MayAdd: pki.Usages{
				Key: x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement, Extended: serverAndClient}},
			change: func(c *x509.Certificate) {
				backdated(c, 30*time.Second)
				c.KeyUsage |= x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
				c.ExtKeyUsage = serverAndClient
			},
			usages: []pki.Usage{pki.ServerAuth},
			own:    []string{"usages is ClientAuth, ServerAuth, want ServerAuth", "go beyond what TLS needs"},
		},
		"Vault with a role that sets the usages": {
			habits: pki.Habits{Backdate: 30 * time.Second},
			change: func(c *x509.Certificate) { backdated(c, 30*time.Second) },
			usages: []pki.Usage{pki.ClientAuth, pki.ServerAuth},
			own:    []string{"lifetime is 55m30s, want 1h0m0s"},
		},
		"step-ca": {
			habits: pki.Habits{Backdate: time.Minute, MayAdd: pki.Usages{Extended: serverAndClient}},
			change: func(c *x509.Certificate) {
				backdated(c, time.Minute)
				c.ExtKeyUsage = serverAndClient
			},
			usages: []pki.Usage{pki.ClientAuth},
			own:    []string{"usages is ClientAuth, ServerAuth, want ClientAuth"},
		},
		"a CA issuer of cert-manager, which does not backdate and adds key encipherment": {
			habits: pki.Habits{MayAdd: pki.Usages{Key: x509.KeyUsageKeyEncipherment}},
			change: func(c *x509.Certificate) {
				backdated(c, 0)
				c.KeyUsage |= x509.KeyUsageKeyEncipherment
			},
			usages: []pki.Usage{pki.ClientAuth, pki.ServerAuth},
			own:    []string{"lifetime is 55m0s, want 1h0m0s", "go beyond what TLS needs"},
		},
	}
}

func TestOtherIssuersHabitsPassByTheirProfileOnly(t *testing.T) {
	root := authority(t, "root", nil, nil)
	for name, tc := range habitsOfOthers() {
		t.Run(name, func(t *testing.T) {
			leaf := sign(t, edit(tc.change), &root, pki.ECDSAP256)
			c := candidate(materialOf(leaf, nil, root.pem()))
			c.Identity.Usages = tc.usages
			for _, want := range tc.own {
				wantFinding(t, c, want, leaf.key)
			}
			c.Identity.Habits = tc.habits
			if err := pki.Lint(t.Context(), c); err != nil {
				t.Errorf("Lint: %v", err)
			}
			if found := pki.Diff(leaf.certificate, c.Identity, root.certificate.NotAfter); len(found) > 0 {
				t.Errorf("it differs from what was requested, and would be issued again forever: %v", found)
			}
			if pki.CertificateFingerprint(leaf.certificate, c.Identity, root.certificate.NotAfter) != c.Identity.Fingerprint() {
				t.Error("the fingerprints differ")
			}
		})
	}
}

func TestWhatAProfileDoesNotNameIsStillAFault(t *testing.T) {
	root := authority(t, "root", nil, nil)
	for name, issuer := range habitsOfOthers() {
		for fault, tc := range map[string]struct {
			change func(*x509.Certificate)
			want   string
		}{
			"another usage":              {func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }, "other usage 3"},
			"a missing usage":            {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }, "usages is "},
			"another key usage":          {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDataEncipherment }, "go beyond what TLS needs"},
			"the right to sign":          {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "can sign others"},
			"a shorter life":             {func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(-time.Second) }, "lifetime is 59m59s, want 1h0m0s"},
			"a longer life":              {func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }, "lifetime is 1h0m1s, want 1h0m0s"},
			"backdated beyond its habit": {func(c *x509.Certificate) { shift(c, -2*time.Minute) }, "must not start before"},
		} {
			t.Run(name+"/"+fault, func(t *testing.T) {
				leaf := sign(t, edit(func(c *x509.Certificate) { issuer.change(c); tc.change(c) }), &root, pki.ECDSAP256)
				c := candidate(materialOf(leaf, nil, root.pem()))
				c.Identity.Usages, c.Identity.Habits = issuer.usages, issuer.habits
				wantFinding(t, c, tc.want, leaf.key)
			})
		}
	}
}

func TestNoProfileMayAddTheRightToSign(t *testing.T) {
	root := authority(t, "root", nil, nil)
	for name, right := range map[string]x509.KeyUsage{"certificates": x509.KeyUsageCertSign, "revocation lists": x509.KeyUsageCRLSign} {
		t.Run(name, func(t *testing.T) {
			leaf := sign(t, edit(func(c *x509.Certificate) { c.KeyUsage |= right }), &root, pki.ECDSAP256)
			c := candidate(materialOf(leaf, nil, root.pem()))
			c.Identity.Habits.MayAdd.Key = right
			wantFinding(t, c, "can sign others", leaf.key)
		})
	}
}

// An issuer with two live intermediates signs with either.
func TestTheKeyThatSignedCountsOnlyIfItIsRequired(t *testing.T) {
	root := authority(t, "root", nil, nil)
	one, two := authority(t, "one", &root, nil), authority(t, "two", &root, nil)
	for name, above := range map[string]signed{"the first intermediate": one, "the second intermediate": two} {
		leaf := sign(t, leafTemplate(), &above, pki.ECDSAP256).certificate
		if found := pki.Diff(leaf, wanted(), root.certificate.NotAfter); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
		required := wanted()
		required.AuthorityKeyID = one.certificate.SubjectKeyId
		if found := pki.Diff(leaf, required, root.certificate.NotAfter); (len(found) > 0) != (name == "the second intermediate") {
			t.Errorf("%s, with the key of the first required: %v", name, found)
		}
	}
}

// An asynchronous issuer signs before rekey asks for its answer.
func TestACertificateThatWaitedForUsIsJudgedFromItsRequest(t *testing.T) {
	root := authority(t, "root", nil, nil)
	leaf := sign(t, edit(func(c *x509.Certificate) { shift(c, -20*time.Minute) }), &root, pki.ECDSAP256)
	c := candidate(materialOf(leaf, nil, root.pem()))
	wantFinding(t, c, "must not start before 2027-03-01T11:54:00Z", leaf.key)
	c.Since = now.Add(-30 * time.Minute)
	if err := pki.Lint(t.Context(), c); err != nil {
		t.Errorf("Lint: %v", err)
	}
	c.Since = now.Add(-10 * time.Minute)
	err := pki.Lint(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "must not start before 2027-03-01T11:44:00Z") {
		t.Errorf("a certificate from before its request: %v", err)
	}
}
