// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package issuertest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// Harness is an issuer under test, and what the suite needs to know about it.
type Harness struct {
	Issuer issuer.Issuer
	// Profile holds its habits. The suite repeats a request to an asynchronous issuer until it answers.
	Profile issuer.Profile
	// Permit checks a finished certificate against the issuer's constraints; nil if they cannot be checked.
	Permit func(*x509.Certificate) error
	// Now is a time at which the issuer works, more than a day before Expires.
	Now time.Time
	// Expires is when the issuer's chain expires.
	Expires time.Time
	// Client and Server are names that the issuer certifies for that usage; Denied are names that it does not certify.
	Client, Server, Denied issuer.Names
	// MaxLifetime is the longest lifetime that it certifies, at least two hours.
	MaxLifetime time.Duration
	// PartialChain is true if the trust anchor is not self-signed.
	PartialChain bool
}

// Run tests the issuer against its contract.
func Run(t *testing.T, h Harness) {
	t.Helper()
	t.Run("what is issued is what was requested, and can be used", h.issues)
	t.Run("a certificate for one usage is refused for the other", h.separatesUsages)
	t.Run("only the public key is taken from the request", h.takesOnlyTheKey)
	t.Run("nothing outlives the chain", h.clamps)
	t.Run("an expired authority issues nothing", h.refusesWhenExpired)
	t.Run("what is not allowed is refused with a class and a reason", h.refuses)
	t.Run("the same request again does no harm", h.repeats)
	t.Run("it answers later only if its profile allows that", h.answers)
	t.Run("every leaf names the key that its profile names", h.namesItsKey)
	t.Run("many requests at once get many serial numbers", h.concurrent)
	t.Run("a canceled request proves nothing", h.canceled)
}

// Key returns a private key of the algorithm, created once per process, because RSA keys are expensive.
func Key(tb testing.TB, algorithm pki.KeyAlgorithm) credential.Sensitive {
	tb.Helper()
	once, _ := keys.LoadOrStore(algorithm, sync.OnceValues(func() (credential.Sensitive, error) { return pki.NewKey(algorithm) }))
	key, err := once.(func() (credential.Sensitive, error))()
	if err != nil {
		tb.Fatalf("creating a key: %v", err)
	}
	return key
}

var keys sync.Map

// Request returns a request for the names with a key of the algorithm.
func (h Harness) Request(tb testing.TB, algorithm pki.KeyAlgorithm, names issuer.Names, usages ...issuer.Usage) issuer.Request {
	tb.Helper()
	csr, err := pki.NewRequest(Key(tb, algorithm), pki.Names(names))
	if err != nil {
		tb.Fatalf("creating a request: %v", err)
	}
	return issuer.Request{ID: tb.Name(), CSR: csr, Names: names, Usages: usages, Lifetime: time.Hour, Now: h.Now}
}

// Candidate returns what a controller would publish from an issuer's answer.
func (h Harness) Candidate(tb testing.TB, algorithm pki.KeyAlgorithm, request issuer.Request, chain issuer.Chain) pki.Candidate {
	tb.Helper()
	usages := make([]pki.Usage, 0, len(request.Usages))
	for _, usage := range request.Usages {
		usages = append(usages, pki.Usage(usage))
	}
	return pki.Candidate{
		Material: credential.Material{
			credential.KeyPrivateKey:  Key(tb, algorithm),
			credential.KeyCertificate: credential.NewSensitive(chain.Certificates),
			credential.KeyAuthority:   credential.NewSensitive(chain.Authorities),
		},
		Identity: pki.Identity{Names: pki.Names(request.Names), Usages: usages, KeyAlgorithm: algorithm, Lifetime: request.Lifetime, Habits: pki.Habits{Backdate: h.Profile.Backdate, MayAdd: pki.Usages(h.Profile.MayAdd)}},
		Permit:   h.Permit,
		Now:      request.Now,
	}
}

// mostAsks is how often the suite asks an asynchronous issuer for one certificate.
const mostAsks = 50

// ask repeats a request until there is an answer.
func (h Harness) ask(ctx context.Context, request issuer.Request) (issuer.Chain, error) {
	chain, err := h.Issuer.Issue(ctx, request)
	for asked := 1; h.Profile.Asynchronous && fault.Classify(err) == fault.ClassPending && asked < mostAsks; asked++ {
		chain, err = h.Issuer.Issue(ctx, request)
	}
	return chain, err
}

func (h Harness) issue(t *testing.T, request issuer.Request) (issuer.Chain, []*x509.Certificate) {
	t.Helper()
	chain, err := h.ask(t.Context(), request)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		t.Fatalf("the answer %v", err)
	}
	return chain, certificates
}

// roles returns the three combinations of usages, with the names for them.
func (h Harness) roles() map[string]issuer.Request {
	return map[string]issuer.Request{
		"client": {Names: h.Client, Usages: []issuer.Usage{issuer.ClientAuth}},
		"server": {Names: h.Server, Usages: []issuer.Usage{issuer.ServerAuth}},
		"both":   {Names: h.Server, Usages: []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth}},
	}
}

func (h Harness) issues(t *testing.T) {
	for name, role := range h.roles() {
		for _, algorithm := range pki.KeyAlgorithms() {
			t.Run(fmt.Sprintf("%s with %s", name, algorithm), func(t *testing.T) {
				request := h.Request(t, algorithm, role.Names, role.Usages...)
				chain, certificates := h.issue(t, request)
				if err := pki.Lint(t.Context(), h.Candidate(t, algorithm, request, chain)); err != nil {
					t.Errorf("Lint: %v", err)
				}
				leaf := certificates[0]
				if want := request.Now.Truncate(time.Second).Add(-h.Profile.Backdate); !leaf.NotBefore.Equal(want) {
					t.Errorf("notBefore is %s, want %s", leaf.NotBefore, want)
				}
				if want := request.Now.Truncate(time.Second).Add(time.Hour); !leaf.NotAfter.Equal(want) {
					t.Errorf("notAfter is %s, want %s", leaf.NotAfter, want)
				}
				for _, usage := range request.Usages {
					for _, at := range []time.Time{request.Now, leaf.NotAfter.Add(-time.Second)} {
						if err := OpenSSLVerify(t, chain, usage, at, h.PartialChain); err != nil {
							t.Errorf("openssl verify for %s at %s: %v", usage, at, err)
						}
					}
				}
			})
		}
	}
}

func (h Harness) separatesUsages(t *testing.T) {
	for name, tc := range map[string]struct {
		names     issuer.Names
		has, want issuer.Usage
	}{
		"a client certificate does not serve":  {h.Client, issuer.ClientAuth, issuer.ServerAuth},
		"a server certificate does not log in": {h.Server, issuer.ServerAuth, issuer.ClientAuth},
	} {
		t.Run(name, func(t *testing.T) {
			chain, _ := h.issue(t, h.Request(t, pki.ECDSAP256, tc.names, tc.has))
			if err := OpenSSLVerify(t, chain, tc.want, h.Now, h.PartialChain); err == nil {
				t.Errorf("openssl accepts it for %s", tc.want)
			}
		})
	}
}

func (h Harness) takesOnlyTheKey(t *testing.T) {
	request := h.Request(t, pki.ECDSAP256, h.Denied, issuer.ClientAuth)
	request.Names = h.Client
	chain, _ := h.issue(t, request)
	if err := pki.Lint(t.Context(), h.Candidate(t, pki.ECDSAP256, request, chain)); err != nil {
		t.Errorf("Lint: %v", err)
	}
}

func (h Harness) clamps(t *testing.T) {
	request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
	request.Now = h.Expires.Add(-30 * time.Minute)
	chain, certificates := h.issue(t, request)
	leaf := certificates[0]
	if !leaf.NotAfter.Equal(h.Expires) {
		t.Errorf("notAfter is %s, want that of the chain, %s", leaf.NotAfter, h.Expires)
	}
	candidate := h.Candidate(t, pki.ECDSAP256, request, chain)
	if err := pki.Lint(t.Context(), candidate); err != nil {
		t.Errorf("Lint: %v", err)
	}
	candidate.Identity.AuthorityKeyID = leaf.AuthorityKeyId
	if differences := pki.Diff(leaf, candidate.Identity, h.Expires); len(differences) > 0 {
		t.Errorf("a shortened certificate differs from its spec and would be issued again forever: %v", differences)
	}
}

func (h Harness) refusesWhenExpired(t *testing.T) {
	if err := h.Issuer.Check(t.Context(), h.Now); err != nil {
		t.Errorf("Check before: %v", err)
	}
	for _, now := range []time.Time{h.Expires, h.Expires.Add(time.Second), h.Expires.Add(1000 * time.Hour)} {
		if err := h.Issuer.Check(t.Context(), now); fault.ReasonOf(err, "") != fault.AuthorityExpired {
			t.Errorf("Check at %s: %v, want the reason %s", now, err, fault.AuthorityExpired)
		}
		request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
		request.Now = now
		_, err := h.ask(t.Context(), request)
		wantRefusal(t, err, fault.AuthorityExpired)
	}
}

func (h Harness) refuses(t *testing.T) {
	good := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
	for name, tc := range map[string]struct {
		change func(*issuer.Request)
		want   fault.Reason
	}{
		"a name outside the constraints":  {func(r *issuer.Request) { r.Names = h.Denied }, fault.ConstraintViolated},
		"no usage":                        {func(r *issuer.Request) { r.Usages = nil }, fault.ConstraintViolated},
		"an unknown usage":                {func(r *issuer.Request) { r.Usages = []issuer.Usage{"CodeSigning"} }, fault.ConstraintViolated},
		"a lifetime that is too long":     {func(r *issuer.Request) { r.Lifetime = h.MaxLifetime + time.Second }, fault.LifetimeTooLong},
		"a lifetime of nothing":           {func(r *issuer.Request) { r.Lifetime = 0 }, fault.IdentityInvalid},
		"a negative lifetime":             {func(r *issuer.Request) { r.Lifetime = -time.Hour }, fault.IdentityInvalid},
		"no name at all":                  {func(r *issuer.Request) { r.Names = issuer.Names{} }, fault.IdentityInvalid},
		"a common name that is too long":  {func(r *issuer.Request) { r.Names.CommonName = string(bytes.Repeat([]byte("a"), 65)) }, fault.IdentityInvalid},
		"no request":                      {func(r *issuer.Request) { r.CSR = nil }, fault.IdentityInvalid},
		"a request that is too long":      {func(r *issuer.Request) { r.CSR = bytes.Repeat([]byte("A"), 70000) }, fault.IdentityInvalid},
		"a request cut short":             {func(r *issuer.Request) { r.CSR = r.CSR[:len(r.CSR)/2] }, fault.IdentityInvalid},
		"two requests in one":             {func(r *issuer.Request) { r.CSR = slices.Concat(r.CSR, r.CSR) }, fault.IdentityInvalid},
		"a request signed by another key": {func(r *issuer.Request) { r.CSR = otherSignature(t, r.CSR) }, fault.IdentityInvalid},
		"a request with a weak key":       {func(r *issuer.Request) { r.CSR = weakRequest(t) }, fault.IdentityInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			request := good
			tc.change(&request)
			chain, err := h.ask(t.Context(), request)
			wantRefusal(t, err, tc.want)
			if len(chain.Certificates) > 0 {
				t.Error("there is a certificate in addition to the error")
			}
		})
	}
}

// otherSignature flips a bit in the signature, at the end of the request.
func otherSignature(t *testing.T, csr []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(csr)
	if block == nil {
		t.Fatal("the request is not PEM")
	}
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

func wantRefusal(t *testing.T, err error, reason fault.Reason) {
	t.Helper()
	if class := fault.Classify(err); class != fault.ClassPermanent {
		t.Errorf("the class is %s, want %s (%v)", class, fault.ClassPermanent, err)
	}
	if got := fault.ReasonOf(err, ""); got != reason {
		t.Errorf("the reason is %s, want %s (%v)", got, reason, err)
	}
}

func (h Harness) repeats(t *testing.T) {
	request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
	first, firstCertificates := h.issue(t, request)
	second, secondCertificates := h.issue(t, request)
	for _, chain := range []issuer.Chain{first, second} {
		if err := pki.Lint(t.Context(), h.Candidate(t, pki.ECDSAP256, request, chain)); err != nil {
			t.Errorf("Lint: %v", err)
		}
	}
	same := bytes.Equal(first.Certificates, second.Certificates)
	if h.Profile.Asynchronous && !same {
		t.Error("the same request got another answer")
	}
	if reused := firstCertificates[0].SerialNumber.Cmp(secondCertificates[0].SerialNumber) == 0; reused != same {
		t.Error("two different certificates have one serial number")
	}
}

func (h Harness) answers(t *testing.T) {
	request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
	chain, err := h.Issuer.Issue(t.Context(), request)
	switch waits := fault.Classify(err) == fault.ClassPending; {
	case waits && !h.Profile.Asynchronous:
		t.Errorf("it answers later, which its profile does not allow: %v", err)
	case waits && (fault.RetryAfter(err) <= 0 || len(chain.Certificates) > 0):
		t.Errorf("while it waits it returns %d bytes, to be asked again in %s", len(chain.Certificates), fault.RetryAfter(err))
	case !waits && err != nil:
		t.Errorf("Issue: %v", err)
	}
}

func (h Harness) namesItsKey(t *testing.T) {
	for n := range 3 {
		request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
		request.ID = fmt.Sprintf("%s/%d", request.ID, n)
		_, certificates := h.issue(t, request)
		if id := certificates[0].AuthorityKeyId; h.Profile.KeyID != nil && !bytes.Equal(id, h.Profile.KeyID) {
			t.Errorf("the leaf names the key %x, want %x", id, h.Profile.KeyID)
		}
	}
}

func (h Harness) concurrent(t *testing.T) {
	const workers, each = 8, 10
	request := h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth)
	serials := make(chan string, workers*each)
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Go(func() {
			for n := range each {
				own := request
				own.ID = fmt.Sprintf("%s/%d/%d", request.ID, worker, n)
				chain, err := h.ask(t.Context(), own)
				if err != nil {
					t.Errorf("Issue: %v", err)
					return
				}
				certificates, err := pki.ParseCertificates(chain.Certificates)
				if err != nil {
					t.Errorf("the answer %v", err)
					return
				}
				serials <- pki.SerialNumber(certificates[0].SerialNumber)
			}
		})
	}
	wait.Wait()
	close(serials)
	seen := map[string]bool{}
	for serial := range serials {
		seen[serial] = true
	}
	if len(seen) != workers*each {
		t.Errorf("%d different serial numbers, want %d", len(seen), workers*each)
	}
}

func (h Harness) canceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Issuer.Issue(ctx, h.Request(t, pki.ECDSAP256, h.Client, issuer.ClientAuth))
	if err == nil {
		return // an issuer that calls no remote system may answer anyway
	}
	if class := fault.Classify(err); class != fault.ClassTransient {
		t.Errorf("the class is %s, want %s (%v)", class, fault.ClassTransient, err)
	}
}
