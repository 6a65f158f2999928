// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/size"
)

// misbehavingIssuer is an authority that signs something other than was requested.
type misbehavingIssuer struct {
	ca.Managed

	// request and chain modify the request and the response; asked counts the requests.
	request func(issuer.Request) issuer.Request
	chain   func(issuer.Chain) (issuer.Chain, error)
	asked   int
}

// Open implements issuer.Opener.
func (a *misbehavingIssuer) Open(ctx context.Context, config issuer.Config) (*issuer.Authority, error) {
	authority, err := a.Managed.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	authority.Issuer = twisted{authority.Issuer, a}
	return authority, nil
}

type twisted struct {
	issuer.Issuer

	by *misbehavingIssuer
}

// Issue implements issuer.Issuer.
func (t twisted) Issue(ctx context.Context, request issuer.Request) (issuer.Chain, error) {
	t.by.asked++
	if t.by.request != nil {
		request = t.by.request(request)
	}
	chain, err := t.Issuer.Issue(ctx, request)
	if err == nil && t.by.chain != nil {
		return t.by.chain(chain)
	}
	return chain, err
}

// foreignRequest returns a request for another key.
func foreignRequest(t *testing.T, algorithm pki.KeyAlgorithm) []byte {
	t.Helper()
	key, err := pki.NewKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key, pki.Names{CommonName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// R7: whatever an issuer returns instead, it is neither published nor requested endlessly, and what is published stays.
func TestAMisbehavingIssuerIsNeitherTrustedNorFlooded(t *testing.T) {
	cases := map[string]*misbehavingIssuer{
		"a shorter lifetime": {request: func(r issuer.Request) issuer.Request { r.Lifetime /= 24; return r }},
		"a longer lifetime":  {request: func(r issuer.Request) issuer.Request { r.Lifetime *= 2; return r }},
		"a certificate that expired already": {request: func(r issuer.Request) issuer.Request {
			r.Now, r.Lifetime = r.Now.Add(-2*time.Hour), time.Hour
			return r
		}},
		"a certificate of tomorrow": {request: func(r issuer.Request) issuer.Request { r.Now = r.Now.Add(24 * time.Hour); return r }},
		"a certificate for another key": {request: func(r issuer.Request) issuer.Request {
			r.CSR = foreignRequest(t, pki.KeyAlgorithm(issuer.ECDSAP256))
			return r
		}},
		"another name": {request: func(r issuer.Request) issuer.Request { r.Names.CommonName = "root"; return r }},
		"another usage": {request: func(r issuer.Request) issuer.Request {
			r.Usages, r.Names = []issuer.Usage{issuer.ServerAuth}, issuer.Names{DNSNames: []string{"app.example.internal"}}
			return r
		}},
		"nothing": {chain: func(issuer.Chain) (issuer.Chain, error) { return issuer.Chain{}, nil }},
		"no PEM": {chain: func(c issuer.Chain) (issuer.Chain, error) {
			c.Certificates = bytes.ToLower(c.Certificates)
			return c, nil
		}},
		"no authorities":  {chain: func(c issuer.Chain) (issuer.Chain, error) { c.Authorities = nil; return c, nil }},
		"always an error": {chain: func(issuer.Chain) (issuer.Chain, error) { return issuer.Chain{}, errors.New("not today") }},
	}
	for name, by := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			// One that has no certificate yet, and one that has something to lose.
			unissued, published := aClientIdentity(), aClientIdentity()
			published.Name, published.Spec.SecretName = "published", "published-mtls"
			ready(w, anAuthority(), published)
			before := w.secret("published-mtls")
			w.step(3 * time.Hour) // So the authority is older than the certificates requested from it.
			w.shared.authorities.openers[v1alpha1.AuthorityTypeManaged] = by
			w.shared.authorities.forget(authorityID{v1alpha1.AuthorityKindNamespaced, w.namespace, "internal"})
			w.create(unissued)
			w.edit(published, func() { published.Spec.KeyAlgorithm = "ECDSA-P384" })
			length := time.Duration(size.Choose(15, 30, 120)) * time.Minute
			for _, o := range []client.Object{unissued, published} {
				by.asked = 0
				begun := w.clock.Now()
				for w.clock.Now().Before(begun.Add(length)) {
					w.step(w.reconcile(o).RequeueAfter)
				}
				// Waits double up to five minutes if nothing is published.
				if most := size.Choose(12, 15, 33); by.asked == 0 || by.asked > most {
					t.Errorf("%s: the issuer got %d requests in %s, want at most %d", o.GetName(), by.asked, length, most)
				}
			}
			var nothing corev1.Secret
			if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "app-mtls"}, &nothing); !apierrors.IsNotFound(err) {
				t.Errorf("something was published (error %v)", err)
			}
			if now := w.secret("published-mtls"); !bytes.Equal(now.Data[credential.KeyCertificate], before.Data[credential.KeyCertificate]) {
				t.Error("what was published was replaced")
			}
			w.wantCondition(published, v1alpha1.ConditionReady, "True/Published")
			if got := condition(unissued, v1alpha1.ConditionReady); got != "False/CertificateInvalid" && got != "False/IssuanceFailed" {
				t.Errorf("Ready is %s:%s", got, describeConditions(unissued))
			}

			// The issuer recovers.
			by.request, by.chain = nil, nil
			w.step(time.Hour)
			w.settle(unissued, 3)
			w.wantCondition(unissued, v1alpha1.ConditionReady, "True/Published")
		})
	}
}
