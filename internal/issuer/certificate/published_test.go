// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package certificate_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/certificate"
	"github.com/rekey/rekey/internal/pki"
)

func TestTheTimeOfIssueIsRecordedUnlessTheCertificateShowsIt(t *testing.T) {
	_, asynchronous := late(t)
	for name, tc := range map[string]struct {
		authority *issuer.Authority
		want      bool
	}{
		"no authority":                            {nil, false},
		"our own authority":                       {own(t), false},
		"an issuer that answers later":            {asynchronous, true},
		"an issuer that does not backdate":        {&issuer.Authority{}, true},
		"one that answers later, backdated alike": {&issuer.Authority{Profile: issuer.Profile{Backdate: pki.Backdate, Asynchronous: true}}, true},
	} {
		if got := certificate.RecordsIssue(tc.authority); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

func TestAPublishedCertificateIsReadByTheHabitsOfItsIssuer(t *testing.T) {
	ours := own(t)
	_, others := late(t)
	_, byUs := staged(t, sourceOf(ours, now))
	_, byOthers := staged(t, sourceOf(others, now))
	missing := wanted() // as if the authority were missing
	for name, tc := range map[string]struct {
		material  credential.Material
		wanted    pki.Identity
		authority *issuer.Authority
		recorded  time.Time
		issued    time.Time
	}{
		"of our own authority":                            {byUs.Material, certificate.Require(missing, ours), ours, time.Time{}, now},
		"of our own authority, which is missing":          {byUs.Material, missing, nil, time.Time{}, now},
		"of our own authority, with a record":             {byUs.Material, certificate.Require(missing, ours), ours, now.Add(-time.Hour), now},
		"of another issuer":                               {byOthers.Material, certificate.Require(missing, others), others, now.Add(time.Minute), now.Add(time.Minute)},
		"of another issuer, whose record was lost":        {byOthers.Material, certificate.Require(missing, others), others, time.Time{}, now.Add(-30 * time.Second)},
		"of another issuer, which is missing, and record": {byOthers.Material, missing, nil, now.Add(time.Minute), now.Add(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := certificate.Read(tc.material, tc.wanted, tc.authority, tc.recorded, now)
			if err != nil {
				t.Fatal(err)
			}
			if !got.IssuedAt.Equal(tc.issued) || !got.NotAfter.Equal(now.Add(time.Hour)) {
				t.Errorf("issued at %s until %s, want %s until %s", got.IssuedAt, got.NotAfter, tc.issued, now.Add(time.Hour))
			}
			if got.Fingerprint != tc.wanted.Fingerprint() {
				t.Error("it differs from what is wanted, and would be issued again forever")
			}
		})
	}
}

func TestAPublishedCertificateThatDiffersHasAnotherFingerprint(t *testing.T) {
	ours := own(t)
	_, out := staged(t, sourceOf(ours, now))
	renamed := *ours
	renamed.RawSubject = []byte("another name")
	named := wanted()
	named.Names.CommonName = "app-server"
	for name, tc := range map[string]struct {
		material  credential.Material
		wanted    pki.Identity
		authority *issuer.Authority
	}{
		"another name is wanted":               {out.Material, certificate.Require(named, ours), ours},
		"another name, without the authority":  {out.Material, named, nil},
		"another authority is to sign":         {out.Material, certificate.Require(wanted(), own(t)), ours},
		"the authority has another name":       {out.Material, certificate.Require(wanted(), ours), &renamed},
		"ca.crt is missing":                    {out.Material.With(credential.KeyAuthority, nil), certificate.Require(wanted(), ours), ours},
		"ca.crt is damaged":                    {out.Material.With(credential.KeyAuthority, []byte("x")), certificate.Require(wanted(), ours), ours},
		"ca.crt is that of another authority":  {out.Material.With(credential.KeyAuthority, own(t).Anchors), certificate.Require(wanted(), ours), ours},
		"ca.crt is missing, and the authority": {out.Material.With(credential.KeyAuthority, nil), wanted(), nil},
	} {
		got, err := certificate.Read(tc.material, tc.wanted, tc.authority, time.Time{}, now)
		if err != nil || got.Fingerprint == tc.wanted.Fingerprint() {
			t.Errorf("%s: it counts as what is wanted, or cannot be read (%v)", name, err)
		}
		if !got.NotAfter.Equal(now.Add(time.Hour)) {
			t.Errorf("%s: its expiry is not watched: %s", name, got.NotAfter)
		}
	}
	_, err := certificate.Read(out.Material.With(credential.KeyCertificate, []byte("x")), wanted(), ours, time.Time{}, now)
	if err == nil || strings.Contains(err.Error(), out.Material.String(credential.KeyPrivateKey)) {
		t.Errorf("a damaged certificate: %v", err)
	}
}

func TestACertificateVerifiesOnlyWithItsOwnAnchors(t *testing.T) {
	_, out := staged(t, sourceOf(own(t), now))
	for name, tc := range map[string]struct {
		material credential.Material
		want     bool
	}{
		"its own":           {out.Material, true},
		"another's":         {out.Material.With(credential.KeyAuthority, own(t).Anchors), false},
		"none":              {out.Material.With(credential.KeyAuthority, nil), false},
		"without any leaf":  {out.Material.With(credential.KeyCertificate, nil), false},
		"nothing published": {nil, false},
	} {
		if got := certificate.Verifies(tc.material, now); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
		if readable := len(tc.material[credential.KeyCertificate].Reveal()) > 0; (certificate.Leaf(tc.material) != nil) != readable {
			t.Errorf("%s: the leaf is %v", name, certificate.Leaf(tc.material))
		}
	}
}

// chaining is an issuer whose intermediates have changed.
type chaining struct {
	issuer.Issuer

	chain []byte
}

// ChainFor implements issuer.Chainer.
func (c chaining) ChainFor(*x509.Certificate, time.Time) []byte { return c.chain }

func TestTheAnchorsAreRefreshedIfTheAuthorityStillSignedTheCertificate(t *testing.T) {
	ours := own(t)
	_, out := staged(t, sourceOf(ours, now))
	with := func(change func(*issuer.Authority)) *issuer.Authority {
		authority := *ours
		change(&authority)
		return &authority
	}
	both := slices.Concat(ours.Anchors, own(t).Anchors)
	for name, tc := range map[string]struct {
		authority *issuer.Authority
		want      []byte
	}{
		"without an authority":             {nil, ours.Anchors},
		"with the same anchors":            {ours, ours.Anchors},
		"with one more":                    {with(func(a *issuer.Authority) { a.Anchors = both }), both},
		"one more, and any key may sign":   {with(func(a *issuer.Authority) { a.Anchors, a.KeyID = both, nil }), both},
		"one more, and another key signs":  {with(func(a *issuer.Authority) { a.Anchors, a.KeyID = both, []byte("another") }), ours.Anchors},
		"with anchors that did not sign":   {with(func(a *issuer.Authority) { a.Anchors = own(t).Anchors }), ours.Anchors},
		"with anchors known per request":   {with(func(a *issuer.Authority) { a.Anchors = nil }), ours.Anchors},
		"with anchors that cannot be read": {with(func(a *issuer.Authority) { a.Anchors = []byte("x") }), ours.Anchors},
	} {
		got := certificate.Refreshed(out.Material, tc.authority, now)
		if !bytes.Equal(got[credential.KeyAuthority].Reveal(), tc.want) {
			t.Errorf("%s: ca.crt is\n%s", name, got[credential.KeyAuthority].Reveal())
		}
		if !got.With(credential.KeyAuthority, nil).Equal(out.Material.With(credential.KeyAuthority, nil)) {
			t.Errorf("%s: more than ca.crt changed", name)
		}
	}
	damaged := out.Material.With(credential.KeyCertificate, []byte("x"))
	if got := certificate.Refreshed(damaged, with(func(a *issuer.Authority) { a.Anchors = both }), now); !got.Equal(damaged) {
		t.Error("a certificate that cannot be read got other anchors")
	}
}

func TestTheChainIsRefreshedIfTheCertificateVerifiesOnlyWithIt(t *testing.T) {
	_, authority := late(t)
	_, out := staged(t, sourceOf(authority, now))
	whole, err := pki.ParseCertificates(out.Material[credential.KeyCertificate].Reveal())
	if err != nil || len(whole) != 2 {
		t.Fatalf("the chain has %d certificates (%v), want leaf and intermediate", len(whole), err)
	}
	cut := out.Material.With(credential.KeyCertificate, pki.EncodeCertificates(whole[0]))
	for name, tc := range map[string]struct {
		issuer issuer.Issuer
		want   credential.Material
	}{
		"an issuer that knows its chain":  {chaining{authority.Issuer, pki.EncodeCertificates(whole[1])}, out.Material},
		"an issuer with a useless chain":  {chaining{authority.Issuer, own(t).Anchors}, cut},
		"an issuer that does not know it": {authority.Issuer, cut},
	} {
		known := *authority
		known.Issuer = tc.issuer
		if got := certificate.Refreshed(cut, &known, now); !got.Equal(tc.want) {
			t.Errorf("%s: the chain is\n%s", name, got[credential.KeyCertificate].Reveal())
		}
		if got := certificate.Refreshed(out.Material, &known, now); !got.Equal(out.Material) {
			t.Errorf("%s: a chain that verifies was replaced", name)
		}
	}
}
