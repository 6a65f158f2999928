// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/size"
)

// lifetime is requested for every leaf: longer than most authorities live, so that it ends with the path.
const lifetime = 30000 * time.Hour

// panel is the set of judges.
type panel struct {
	judges map[string]Judge
}

func newPanel(t *testing.T) panel {
	t.Helper()
	return panel{judges: map[string]Judge{"Go": Go, "OpenSSL": OpenSSL, "Java": StartJava(t).Path}}
}

// ask asks each judge; its answer is an error for each no.
func (p panel) ask(t *testing.T, q Question) map[string]error {
	t.Helper()
	out := map[string]error{}
	for name, judge := range p.judges {
		out[name] = judge(t, q)
	}
	return out
}

// published is what rekey would put into the Secret of an identity.
type published struct {
	chain, anchors []byte
	leaf           *x509.Certificate
	// notes is what Ready reports about the authority.
	notes string
}

// secretOf returns the content of the Secret of a case.
func secretOf(c Case) credential.Material {
	return credential.Material{
		credential.KeyCertificate: credential.NewSensitive(c.Certificate), credential.KeyPrivateKey: credential.NewSensitive(c.Key),
		credential.KeyAuthority: credential.NewSensitive(c.Anchors),
	}
}

// publish does all that rekey does with a case: it reads the key pair, checks its dates, signs a leaf for one usage, and
// checks the result before publishing it.
func publish(ctx context.Context, c Case, usage Usage) (*published, error) {
	authority, err := ca.KeyPair{}.Open(ctx, issuer.Config{Settings: []byte(`{"secretName":"ca"}`), Secret: secretOf(c), Now: At, Constraints: issuer.Constraints{
		MaxLifetime: lifetime, CommonNames: []string{"*"}, Organizations: []string{"*"}, DNSNames: []string{"*.example.internal"},
		URIs: []string{"spiffe://example.internal/*"}, IPRanges: []string{"10.0.0.0/8"}, EmailDomains: []string{"example.com"},
		Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth},
	}})
	if err != nil {
		return nil, err
	}
	if err := authority.Check(ctx, At); err != nil {
		return nil, err
	}
	uri, err := url.Parse(LeafURI)
	if err != nil {
		return nil, err
	}
	names := pki.Names{
		CommonName: LeafCommonName, Organizations: []string{LeafOrganization}, DNSNames: []string{LeafDNSName},
		URIs: []*url.URL{uri}, IPAddresses: []net.IP{net.ParseIP(LeafIP)}, EmailAddresses: []string{LeafEmail},
	}
	key, csr, err := pki.NewKeyAndRequest(pki.ECDSAP256, names)
	if err != nil {
		return nil, err
	}
	word := map[Usage]issuer.Usage{Server: issuer.ServerAuth, Client: issuer.ClientAuth}[usage]
	chain, err := authority.Issue(ctx, issuer.Request{
		ID: "case/1", CSR: csr, Names: issuer.Names(names), Usages: []issuer.Usage{word}, Lifetime: lifetime, Now: At,
	})
	if err != nil {
		return nil, err
	}
	candidate := pki.Candidate{
		Material: credential.Material{
			credential.KeyPrivateKey: key, credential.KeyCertificate: credential.NewSensitive(chain.Certificates),
			credential.KeyAuthority: credential.NewSensitive(chain.Authorities),
		},
		Identity: pki.Identity{Names: names, Usages: []pki.Usage{pki.Usage(word)}, KeyAlgorithm: pki.ECDSAP256, Lifetime: lifetime, Habits: pki.Habits{Backdate: pki.Backdate}},
		Now:      At,
	}
	if permitter, ok := authority.Issuer.(issuer.Permitter); ok {
		candidate.Permit = permitter.Permit
	}
	if err := pki.Lint(ctx, candidate); err != nil {
		return nil, err
	}
	secret, err := pki.ParseTLSSecret(pki.TLSSecretData(candidate.Material, nil))
	if err != nil {
		return nil, fmt.Errorf("reading back what is published: %w", err)
	}
	if err := secret.Verify(At); err != nil {
		return nil, fmt.Errorf("verifying what was read back: %w", err)
	}
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		return nil, err
	}
	return &published{chain: chain.Certificates, anchors: chain.Authorities, leaf: certificates[0], notes: strings.Join(authority.Notes, " ")}, nil
}

// alone lists the peers that refuse what the others accept, and why. The sweep must encounter each entry, or it is out of
// date.
var alone = []struct {
	judge, form, why string
}{
	{"OpenSSL", `may be used for anything`, "takes anyExtendedKeyUsage of an authority for no usage"},
	{"Java", `has an empty subject`, "refuses a certificate without the name of its issuer (RFC 5280, section 4.1.2.4)"},
}

// verdict is the outcome of one case.
type verdict struct {
	accepted string // The letters of the judges that accept it, and of rekey.
	problems []string
}

func (v *verdict) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// usable reports whether Go reads the key and the first certificate, as a server has to.
func usable(c Case) bool {
	first, _ := pem.Decode(c.Certificate)
	if first == nil || first.Type != "CERTIFICATE" {
		return false
	}
	rest := c.Key
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return false
		}
		if block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY") {
			continue
		}
		for _, parse := range []func([]byte) error{
			func(der []byte) error { _, err := x509.ParsePKCS8PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParsePKCS1PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParseECPrivateKey(der); return err },
		} {
			if parse(block.Bytes) == nil {
				return true
			}
		}
		return false
	}
}

// judge holds rekey to the rules in one case and for one usage.
func (p panel) judge(t *testing.T, c Case, usage Usage, seen *sync.Map) verdict {
	t.Helper()
	var v verdict
	question := Question{Leaf: c.Leaf, Untrusted: c.Certificate, Trusted: c.Trusted, Usage: usage, At: At, Partial: c.Partial}
	answers := p.ask(t, question)
	for _, name := range []string{"Go", "OpenSSL", "Java"} {
		if answers[name] == nil {
			v.accepted += name[:1]
		} else {
			v.accepted += "-"
		}
	}
	accepted := answers["Go"] == nil && (answers["OpenSSL"] == nil || answers["Java"] == nil) && usable(c) && c.Policy == ""
	if c.All {
		accepted = accepted && answers["OpenSSL"] == nil && answers["Java"] == nil
	}
	v.bundle(t, c, accepted, answers["Go"], question)
	out, err := publish(t.Context(), c, usage)
	if err != nil {
		v.accepted += "-"
		v.refused(c, accepted, err)
		return v
	}
	v.accepted += "r"
	if c.Policy != "" {
		v.problem("rekey accepts what it must refuse: %s", c.Policy)
	}
	partial := c.Partial || topIsLeftOut(c, out)
	for name, judge := range p.judges {
		for _, at := range []time.Time{At, out.leaf.NotAfter.Add(-time.Second)} {
			err := judge(t, Question{Leaf: out.chain, Untrusted: out.chain, Trusted: out.anchors, Usage: usage, At: at, Partial: partial})
			if err != nil && !(name == "OpenSSL" && strings.Contains(out.notes, "OpenSSL may use ")) && !standsAlone(name, c, answers[name], seen) {
				v.problem("%s refuses what rekey publishes, at %s: %v", name, at.Format(time.RFC3339), err)
			}
		}
	}
	question.Partial = partial
	v.strict(t, question, out)
	return v
}

// topIsLeftOut reports whether rekey has omitted from ca.crt a root that Go cannot read, as its Ready message says, and
// nothing self-signed is left: OpenSSL must then get the option to stop below it.
func topIsLeftOut(c Case, out *published) bool {
	bundle, err := pki.ParseBundle(c.Trusted)
	left, err2 := pki.ParseCertificates(out.anchors)
	return err == nil && err2 == nil && len(left) < len(bundle.Certificates)+len(bundle.Unreadable) &&
		!slices.ContainsFunc(left, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) })
}

// bundle makes rekey read the trusted certificates as those of a database server: nothing that Go needs is lost.
func (v *verdict) bundle(t *testing.T, c Case, accepted bool, answer error, question Question) {
	t.Helper()
	bundle, err := pki.ParseBundle(c.Trusted)
	if err != nil {
		if accepted {
			v.problem("Go and another judge read the bundle, rekey refuses it: %v", err)
		}
		return
	}
	question.Trusted = pki.EncodeCertificates(bundle.Certificates...)
	if err := Go(t, question); answer == nil && err != nil {
		v.problem("Go accepts the bundle, and not what rekey reads from it: %v", err)
	}
}

// refused checks the reason for a refusal.
func (v *verdict) refused(c Case, accepted bool, err error) {
	message := err.Error()
	if accepted {
		v.problem("Go and another judge accept it, rekey refuses it: %s", message)
		return
	}
	if !slices.ContainsFunc(c.Causes, func(cause string) bool { return regexp.MustCompile(cause).MatchString(message) }) {
		v.problem("the message names none of the causes %q: %s", c.Causes, message)
	}
	damaged := slices.ContainsFunc(c.Causes, func(cause string) bool { return strings.Contains(cause, "damaged") })
	if strings.Contains(message, "damaged") && !damaged {
		v.problem("it is called damaged, which is wrong: %s", message)
	}
	for _, secret := range [][]byte{c.Key, c.LeafKey} {
		for line := range bytes.Lines(secret) {
			if line = bytes.TrimSpace(line); len(line) > 40 && strings.Contains(message, string(line)) {
				v.problem("the message shows the key")
			}
		}
	}
}

// standsAlone reports whether a judge that refused the case itself is known to refuse that form.
func standsAlone(judge string, c Case, answer error, seen *sync.Map) bool {
	if answer == nil {
		return false
	}
	for n, known := range alone {
		if known.judge == judge && regexp.MustCompile(known.form).MatchString(c.Name) {
			seen.Store(n, true)
			return true
		}
	}
	return false
}

// strict asks OpenSSL for its format checks: what rekey publishes passes them if the authority itself does.
func (v *verdict) strict(t *testing.T, question Question, out *published) {
	t.Helper()
	question.Strict = true
	err := OpenSSL(t, Question{Leaf: out.chain, Untrusted: out.chain, Trusted: out.anchors, Usage: question.Usage, At: At, Partial: question.Partial, Strict: true})
	if err != nil && OpenSSL(t, question) == nil {
		v.problem("openssl -x509_strict accepts the authority, and refuses what rekey publishes: %v", err)
	}
}

// drawn returns the seed and the number of random cases: few in make test, many if REKEY_SIZE asks for them.
func drawn() (seed uint64, count int) {
	seed, requested := size.Requested()
	if !requested {
		seed = uint64(At.Year())
	}
	return seed, size.Choose(30, 600, 3000)
}

func TestRekeyAgreesWithOpenSSLGoAndJavaOnEveryForm(t *testing.T) {
	ring, judges := NewKeyring(t), newPanel(t)
	cases := Forms(t, ring)
	seed, count := drawn()
	for n := range count {
		c := Draw(t, ring, seed, uint64(n))
		c.Name = fmt.Sprintf("case %d of seed %d: %s", n, seed, c.Name)
		cases = append(cases, c)
	}
	var seen sync.Map
	counts, byForm, ran, lock := map[string]int{}, map[string][2]int{}, 0, sync.Mutex{}
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				lock.Lock()
				ran++
				lock.Unlock()
				for _, usage := range []Usage{Server, Client} {
					if usage == Client && !strings.Contains(c.Name, "may be used for") {
						continue
					}
					v := judges.judge(t, c, usage, &seen)
					for _, problem := range v.problems {
						t.Errorf("as %s: %s", usage, problem)
					}
					lock.Lock()
					counts[v.accepted]++
					for _, form := range c.Forms {
						tally := byForm[form]
						tally[0]++
						if strings.HasSuffix(v.accepted, "r") {
							tally[1]++
						}
						byForm[form] = tally
					}
					lock.Unlock()
				}
			})
		}
	})
	for _, letters := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%5d cases: %s (G: Go, O: OpenSSL, J: Java, r: rekey)", counts[letters], letters)
	}
	for _, form := range slices.Sorted(maps.Keys(byForm)) {
		t.Logf("%5d tested, %5d accepted: %s", byForm[form][0], byForm[form][1], form)
	}
	if ran < len(cases) {
		return // Selected by -run; the rest is about all cases.
	}
	for n, known := range alone {
		if _, ok := seen.Load(n); !ok {
			t.Errorf("out of date, since no case shows it: %s %s (%s)", known.judge, known.why, known.form)
		}
	}
	if len(counts) < 5 {
		t.Errorf("the judges and rekey gave only %d combinations of verdicts, want at least 5", len(counts))
	}
}
