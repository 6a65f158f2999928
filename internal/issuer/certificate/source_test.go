// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package certificate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/certificate"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/lateissuer"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func constraints() issuer.Constraints {
	return issuer.Constraints{MaxLifetime: 720 * time.Hour, CommonNames: []string{"app-*"}, Usages: []issuer.Usage{issuer.ClientAuth}}
}

// wanted is what an identity asks for.
func wanted() pki.Identity {
	return pki.Identity{
		Names: pki.Names{CommonName: "app-client"}, Usages: []pki.Usage{pki.ClientAuth}, KeyAlgorithm: pki.ECDSAP256, Lifetime: time.Hour,
		Habits: pki.Habits{Backdate: pki.Backdate},
	}
}

// own opens an authority that rekey itself created, a new one each time.
func own(t *testing.T) *issuer.Authority {
	t.Helper()
	settings := []byte(`{"commonName":"Test CA","keyAlgorithm":"ECDSA-P256","lifetime":"8760h","secretName":"ca"}`)
	secret, err := ca.Managed{}.Create(settings, now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.Managed{}.Open(t.Context(), issuer.Config{Settings: settings, Secret: secret, Constraints: constraints(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// late opens an authority that answers later, at a server of its own.
func late(t *testing.T) (*lateissuer.Server, *issuer.Authority) {
	t.Helper()
	server, err := lateissuer.New(now)
	if err != nil {
		t.Fatal(err)
	}
	server.SetWait(time.Millisecond)
	authority, err := lateissuer.Opener{Server: server}.Open(t.Context(), issuer.Config{Secret: lateissuer.Secret(), Constraints: constraints(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return server, authority
}

func sourceOf(authority *issuer.Authority, at time.Time) *certificate.Source {
	return &certificate.Source{
		Authority: authority, Wanted: certificate.Require(wanted(), authority), UID: "0a1b", Now: func() time.Time { return at },
	}
}

// staged returns a proposal of version 1, and what an authority made of it.
func staged(t *testing.T, source *certificate.Source) (credential.Change, credential.Staged) {
	t.Helper()
	change := credential.Change{Ref: credential.Ref{Namespace: "web", Name: "app", Seq: 1}}
	var err error
	if change.Material, err = source.Propose(change.Ref); err != nil {
		t.Fatal(err)
	}
	out, err := source.Stage(t.Context(), change)
	if fault.Classify(err) == fault.ClassPending {
		out, err = source.Stage(t.Context(), change)
	}
	if err != nil {
		t.Fatal(err)
	}
	return change, out
}

// usable reports whether a TLS client could present the material to a peer that trusts the anchors, without using the source.
func usable(t *testing.T, m credential.Material) bool {
	t.Helper()
	pair, err := tls.X509KeyPair(m[credential.KeyCertificate].Reveal(), m[credential.KeyPrivateKey].Reveal())
	if err != nil {
		t.Log(err)
		return false
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	options.Roots.AppendCertsFromPEM(m[credential.KeyAuthority].Reveal())
	options.Intermediates.AppendCertsFromPEM(m[credential.KeyCertificate].Reveal())
	_, err = pair.Leaf.Verify(options)
	return err == nil
}

func harness(authority *issuer.Authority) sourcetest.Harness {
	return sourcetest.Harness{
		Secret: credential.KeyPrivateKey,
		Fresh: func(*testing.T) sourcetest.Subject {
			return sourcetest.Subject{
				Source:  func(*testing.T) credential.Source { return sourceOf(authority, now) },
				Accepts: usable,
			}
		},
	}
}

func TestACertificateOfOurOwnAuthoritySatisfiesTheContract(t *testing.T) {
	sourcetest.Run(t, harness(own(t)))
}

func TestACertificateThatIsIssuedLaterSatisfiesTheContract(t *testing.T) {
	server, authority := late(t)
	h := harness(authority)
	h.Traits, h.Patience = credential.Traits{Durable: true}, 10*time.Millisecond
	h.Outage = func(*testing.T) func() { server.SetDown(true); return func() { server.SetDown(false) } }
	// Each credential is a different object, so its requests differ too.
	objects := 0
	h.Fresh = func(*testing.T) sourcetest.Subject {
		objects++
		uid := fmt.Sprint("object ", objects)
		return sourcetest.Subject{Accepts: usable, Source: func(*testing.T) credential.Source {
			source := sourceOf(authority, now)
			source.UID = uid
			return source
		}}
	}
	sourcetest.Run(t, h)
}

func TestACandidateIsDurableIfTheIssuerAnswersLaterOrOneIsRecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		authority *issuer.Authority
		recorded  bool
		want      credential.Traits
	}{
		"an issuer that answers at once":                          {authority: &issuer.Authority{}},
		"an issuer that answers at once, with a candidate left":   {authority: &issuer.Authority{}, recorded: true},
		"an issuer that answers later":                            {&issuer.Authority{Profile: issuer.Profile{Asynchronous: true}}, false, credential.Traits{Durable: true}},
		"an issuer that is missing, without a candidate":          {},
		"an issuer that is missing, while a candidate is waiting": {nil, true, credential.Traits{Durable: true}},
	} {
		if diff := cmp.Diff(tc.want, certificate.TraitsOf(tc.authority, tc.recorded)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// recorder records what it is asked, and answers with chain or err.
type recorder struct {
	issuer.Issuer

	asked []issuer.Request
	chain issuer.Chain
	err   error
}

// Issue implements issuer.Issuer.
func (r *recorder) Issue(_ context.Context, request issuer.Request) (issuer.Chain, error) {
	r.asked = append(r.asked, request)
	return r.chain, r.err
}

func TestTheSameVersionAndKeyAreTheSameRequest(t *testing.T) {
	issuing := &recorder{err: fault.Pending(time.Second, errors.New("later"))}
	authority := &issuer.Authority{Issuer: issuing, Profile: issuer.Profile{Asynchronous: true}}
	first, err := sourceOf(authority, now).Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := sourceOf(authority, now).Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(uid string, seq int64, m credential.Material) string {
		source := sourceOf(authority, now) // another process has another source
		source.UID = uid
		if _, err := source.Stage(t.Context(), credential.Change{Ref: credential.Ref{Seq: seq}, Material: m}); fault.Classify(err) != fault.ClassPending {
			t.Errorf("the issuer's error became %v", err)
		}
		return issuing.asked[len(issuing.asked)-1].ID
	}
	id := ask("0a1b", 1, first)
	if !strings.HasPrefix(id, "0a1b/1/") {
		t.Errorf("the request is named %q, not after object and version", id)
	}
	if again := ask("0a1b", 1, first); again != id {
		t.Errorf("the same request is named %q and %q", id, again)
	}
	for what, other := range map[string]string{
		"another object": ask("2c3d", 1, first), "another version": ask("0a1b", 2, first), "another key": ask("0a1b", 1, second),
	} {
		if other == id {
			t.Errorf("%s has the same request %q", what, id)
		}
	}
	request := issuing.asked[0]
	request.ID, request.CSR = "", nil
	want := issuer.Request{Names: issuer.Names(wanted().Names), Usages: []issuer.Usage{issuer.ClientAuth}, Lifetime: time.Hour, Now: now}
	if diff := cmp.Diff(want, request); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsStagedHoldsTheCertificateAndNotTheRequest(t *testing.T) {
	change, out := staged(t, sourceOf(own(t), now))
	if diff := cmp.Diff([]string{credential.KeyAuthority, credential.KeyCertificate, credential.KeyPrivateKey}, out.Material.Keys()); diff != "" {
		t.Error(diff)
	}
	if change.Material[credential.KeyRequest].IsEmpty() {
		t.Error("the proposal lost its request")
	}
	if want := now.Add(time.Hour); !out.NotAfter.Equal(want) {
		t.Errorf("it expires at %s, want %s", out.NotAfter, want)
	}
}

func TestAnAnswerThatCannotBeReadIsAFaultOfTheIssuer(t *testing.T) {
	authority := &issuer.Authority{Issuer: &recorder{chain: issuer.Chain{Certificates: []byte("later, perhaps")}}}
	source := sourceOf(authority, now)
	proposed, err := source.Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Stage(t.Context(), credential.Change{Material: proposed})
	if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.CertificateInvalid {
		t.Errorf("got %v", err)
	}
}

// Stage refuses it, so that the planner does not discard one candidate after another.
func TestACertificateThatExpiredBeforeItWasStagedIsRefused(t *testing.T) {
	_, out := staged(t, sourceOf(own(t), now))
	chain := issuer.Chain{Certificates: out.Material[credential.KeyCertificate].Reveal(), Authorities: out.Material[credential.KeyAuthority].Reveal()}
	for _, late := range []bool{false, true} {
		for at, want := range map[time.Time]fault.Reason{out.NotAfter.Add(-time.Second): "", out.NotAfter: fault.CertificateInvalid} {
			source := sourceOf(&issuer.Authority{Issuer: &recorder{chain: chain}, Profile: issuer.Profile{Asynchronous: late}}, at)
			proposed, err := source.Propose(credential.Ref{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = source.Stage(t.Context(), credential.Change{Material: proposed})
			if fault.ReasonOf(err, "") != want || want != "" && fault.Classify(err) != fault.ClassPermanent {
				t.Errorf("answers later %t, staged %s before it expires: %v", late, out.NotAfter.Sub(at), err)
			}
		}
	}
}

func TestAProposalWithoutItsRequestIsRefused(t *testing.T) {
	server, authority := late(t)
	for name, authority := range map[string]*issuer.Authority{"our own authority": own(t), "an issuer that answers later": authority} {
		source := sourceOf(authority, now)
		proposed, err := source.Propose(credential.Ref{})
		if err != nil {
			t.Fatal(err)
		}
		delete(proposed, credential.KeyRequest)
		if _, err := source.Stage(t.Context(), credential.Change{Material: proposed}); fault.Classify(err) != fault.ClassPermanent {
			t.Errorf("%s: %v", name, err)
		}
	}
	if server.Requests() != 0 {
		t.Errorf("%d requests were recorded", server.Requests())
	}
}

func TestADefectIsAnErrorAndNotARejection(t *testing.T) {
	authority := own(t)
	source := sourceOf(authority, now)
	change, out := staged(t, source)
	other := sourceOf(authority, now)
	other.Wanted.Names.CommonName = "app-server"
	strict := own(t)
	for name, tc := range map[string]struct {
		source   *certificate.Source
		material credential.Material
	}{
		"it has no trust anchor":                  {source, out.Material.With(credential.KeyAuthority, nil)},
		"another name is wanted":                  {other, out.Material},
		"another authority is to sign":            {sourceOf(strict, now), out.Material},
		"it has expired":                          {sourceOf(authority, now.Add(2*time.Hour)), out.Material},
		"the clock of its own authority is ahead": {sourceOf(authority, now.Add(-pki.Backdate-time.Second)), out.Material},
	} {
		answer, err := tc.source.Verify(t.Context(), change.Ref, tc.material)
		if answer != credential.Unknown || fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.CertificateInvalid {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
}

// A certificate that its authority's constraints no longer allow is not published.
func TestTheConstraintsAreCheckedOnTheResult(t *testing.T) {
	authority := own(t)
	change, out := staged(t, sourceOf(authority, now))
	refusing := *authority
	refusing.Issuer = permitting{authority.Issuer, errors.New("too pretty")}
	_, err := sourceOf(&refusing, now).Verify(t.Context(), change.Ref, out.Material)
	if fault.ReasonOf(err, "") != fault.CertificateInvalid || !strings.Contains(err.Error(), "too pretty") {
		t.Errorf("got %v", err)
	}
}

type permitting struct {
	issuer.Issuer

	err error
}

// Permit implements issuer.Permitter.
func (p permitting) Permit(*x509.Certificate) error { return p.err }

func TestACertificateFromAClockThatIsAheadWaitsUntilItIsValid(t *testing.T) {
	for name, tc := range map[string]struct {
		ahead, wait time.Duration
		class       fault.Class
	}{
		"as far as the issuer backdates":   {ahead: lateissuer.Backdate, class: fault.ClassNone},
		"a second further":                 {lateissuer.Backdate + time.Second, time.Second, fault.ClassPending},
		"five minutes further":             {lateissuer.Backdate + 5*time.Minute, 5 * time.Minute, fault.ClassPending},
		"further than a clock may be":      {lateissuer.Backdate + 5*time.Minute + time.Second, 0, fault.ClassPermanent},
		"a day, as with a wrong time zone": {24 * time.Hour, 0, fault.ClassPermanent},
	} {
		t.Run(name, func(t *testing.T) {
			server, authority := late(t)
			server.SetAhead(tc.ahead)
			change, out := staged(t, sourceOf(authority, now))
			answer, err := sourceOf(authority, now).Verify(t.Context(), change.Ref, out.Material)
			if got := fault.Classify(err); got != tc.class || fault.RetryAfter(err) != tc.wait || (answer == credential.Accepted) != (err == nil) {
				t.Fatalf("%s, %s, again in %s (%v); want %s, in %s", answer, got, fault.RetryAfter(err), err, tc.class, tc.wait)
			}
			if tc.class != fault.ClassPending {
				return
			}
			if answer, err := sourceOf(authority, now.Add(tc.wait)).Verify(t.Context(), change.Ref, out.Material); answer != credential.Accepted {
				t.Errorf("after the wait: %s, %v", answer, err)
			}
		})
	}
}

func TestOnlyACertificateWithoutAnyOtherDefectWaits(t *testing.T) {
	server, authority := late(t)
	server.SetAhead(lateissuer.Backdate + time.Minute)
	change, out := staged(t, sourceOf(authority, now))
	other := sourceOf(authority, now)
	other.Wanted.Names.CommonName = "app-server"
	synchronous := *authority
	synchronous.Asynchronous = false
	for name, tc := range map[string]struct {
		source *certificate.Source
		want   credential.Answer
	}{
		"another name is wanted":                      {other, credential.Rejected},
		"an issuer whose candidates are not recorded": {sourceOf(&synchronous, now), credential.Unknown},
	} {
		answer, err := tc.source.Verify(t.Context(), change.Ref, out.Material)
		if answer != tc.want || fault.ReasonOf(err, "") != fault.CertificateInvalid {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
}

// Nothing makes a recorded certificate better, so a defect is a rejection: otherwise it would be verified again forever.
func TestADefectOfARecordedCertificateIsARejection(t *testing.T) {
	server, authority := late(t)
	change, out := staged(t, sourceOf(authority, now))
	server.SetErrs(true)
	_, wrong := staged(t, sourceOf(authority, now))
	refusing := *authority
	refusing.Issuer = permitting{authority.Issuer, errors.New("too pretty")}
	for name, tc := range map[string]struct {
		source   *certificate.Source
		material credential.Material
	}{
		"it has other usages":                 {sourceOf(authority, now), wrong.Material},
		"it has expired":                      {sourceOf(authority, now.Add(2*time.Hour)), out.Material},
		"it has no trust anchor":              {sourceOf(authority, now), out.Material.With(credential.KeyAuthority, nil)},
		"it has no certificate":               {sourceOf(authority, now), out.Material.With(credential.KeyCertificate, nil)},
		"the constraints do not allow it now": {sourceOf(&refusing, now), out.Material},
	} {
		answer, err := tc.source.Verify(t.Context(), change.Ref, tc.material)
		if answer != credential.Rejected || fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.CertificateInvalid {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
	if answer, err := sourceOf(authority, now).Verify(t.Context(), change.Ref, out.Material); answer != credential.Accepted || err != nil {
		t.Errorf("without a defect: %s, %v", answer, err)
	}
}

func TestOnlyARecordedRequestForTheRecordedKeyIsSent(t *testing.T) {
	server, authority := late(t)
	source := sourceOf(authority, now)
	first, err := source.Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := source.Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]credential.Material{
		"no request":                first.With(credential.KeyRequest, nil),
		"half a request":            first.With(credential.KeyRequest, first[credential.KeyRequest].Reveal()[:100]),
		"no key":                    first.With(credential.KeyPrivateKey, nil),
		"a request for another key": first.With(credential.KeyRequest, second[credential.KeyRequest].Reveal()),
	} {
		_, err := source.Stage(t.Context(), credential.Change{Ref: credential.Ref{Seq: 1}, Material: m})
		if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.LedgerInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if server.Questions() != 0 {
		t.Errorf("the issuer was asked %d times", server.Questions())
	}
}

func TestARequestThatIsNoLongerWantedIsNotSent(t *testing.T) {
	server, authority := late(t)
	source := sourceOf(authority, now)
	proposed, err := source.Propose(credential.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	over := errors.New("another process continued")
	_, err = source.Stage(t.Context(), credential.Change{Ref: credential.Ref{Seq: 1}, Material: proposed, StillWanted: func(context.Context) error { return over }})
	if !errors.Is(err, over) || server.Questions() != 0 {
		t.Errorf("got %v after %d questions", err, server.Questions())
	}
}
