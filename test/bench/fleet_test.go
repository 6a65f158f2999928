// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/fixture"
)

// operatorNamespace is where rekey keeps its lease and the key of the cluster-wide authority.
const operatorNamespace = "rekey-system"

// keyPairName is the name of the Secret with the authority's key pair.
const keyPairName = "internal-ca"

// fleet is a number of identities in a number of namespaces. In one namespace they use an authority of that namespace, in
// several the cluster-wide one.
type fleet struct{ n, namespaces int }

func (f fleet) String() string {
	if f.namespaces == 1 {
		return fmt.Sprintf("%d in 1 namespace", f.n)
	}
	return fmt.Sprintf("%d in %d namespaces", f.n, f.namespaces)
}

func (f fleet) namespace(i int) string { return fmt.Sprintf("fleet-%03d", i%f.namespaces) }

func name(i int) string { return fmt.Sprintf("app-%05d", i) }

// exchange is an authority with its first key pair and the next one.
type exchange struct {
	fleet     fleet
	authority client.Object
	keyPair   *corev1.Secret
	next      map[string][]byte
}

func newKeyPair(t *testing.T, name string) map[string][]byte {
	t.Helper()
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: name, KeyAlgorithm: issuer.ECDSAP256, Lifetime: 43800 * time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{corev1.TLSCertKey: crt, corev1.TLSPrivateKeyKey: key.Reveal()}
}

// prepare creates namespaces and the authority.
func (f fleet) prepare(t *testing.T, s *apiServer) exchange {
	t.Helper()
	keyPair := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace(0), Name: keyPairName, Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Type: corev1.SecretTypeTLS, Data: newKeyPair(t, "Fleet CA")}
	objects := []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}}
	for i := range f.namespaces {
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace(i), Labels: map[string]string{"fleet": "true"}}})
	}
	spec := fixture.AuthoritySpec(keyPairName)
	fixture.SetKeyPair(&spec, keyPairName)
	spec.Constraints.DNSNames, spec.Constraints.URIs = nil, []v1alpha1.URIPattern{"spiffe://example.internal/ns/*"}
	var authority client.Object = fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.Namespace, a.Spec = f.namespace(0), spec })
	if f.namespaces > 1 {
		keyPair.Namespace = operatorNamespace
		authority = fixture.ClusterAuthority("internal", func(a *v1alpha1.ClusterCertificateAuthority) {
			a.Spec.AuthoritySpec, a.Spec.NamespaceSelector = spec, &metav1.LabelSelector{MatchLabels: map[string]string{"fleet": "true"}}
		})
	}
	for _, object := range append(objects, keyPair, authority) {
		if err := s.client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	return exchange{f, authority, keyPair, newKeyPair(t, "Next Fleet CA")}
}

// exchanged replaces the key pair with the new one. No watch reports it: its Secret cannot be watched.
func (e exchange) exchanged(t *testing.T, s *apiServer) {
	t.Helper()
	e.keyPair.Data = e.next
	if err := s.client.Update(t.Context(), e.keyPair); err != nil {
		t.Fatal(err)
	}
}

// check fails if the first or the last of n certificates is not of the new key.
func (e exchange) check(t *testing.T, s *apiServer, n int) {
	t.Helper()
	root, _ := pem.Decode(e.next[corev1.TLSCertKey])
	signer, err := x509.ParseCertificate(root.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, n - 1} {
		secret := &corev1.Secret{}
		if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: e.fleet.namespace(i), Name: name(i) + "-mtls"}, secret); err != nil {
			t.Fatal(err)
		}
		leaf, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
		certificate, err := x509.ParseCertificate(leaf.Bytes)
		if err == nil {
			err = certificate.CheckSignatureFrom(signer)
		}
		if err != nil {
			t.Fatalf("the certificate of %s is not of the new key: %v", name(i), err)
		}
	}
}

// touchAuthority changes the authority's spec, in nothing that an identity needs, so its key pair is read at once.
var touchAuthority = client.RawPatch(types.MergePatchType, []byte(`{"spec":{"constraints":{"organizations":["touched"]}}}`))

// authorityReady waits until the authority can sign.
func authorityReady(t *testing.T, s *apiServer, authority client.Object) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(authority), authority); err != nil {
			t.Fatal(err)
		}
		if meta.IsStatusConditionTrue(fixture.Conditions(authority), v1alpha1.ConditionReady) {
			return
		}
	}
	t.Fatal("the authority did not become ready")
}

// creations returns the requests that apply the fleet.
func (f fleet) creations(t *testing.T) []request {
	t.Helper()
	kind := v1alpha1.AuthorityKindNamespaced
	if f.namespaces > 1 {
		kind = v1alpha1.AuthorityKindCluster
	}
	out := make([]request, 0, f.n)
	for i := range f.n {
		body, err := json.Marshal(fixture.ClientIdentity(name(i), func(o *v1alpha1.ClientIdentity) {
			o.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ClientIdentity"}
			o.Namespace, o.Spec.AuthorityRef.Kind = f.namespace(i), kind
			o.Spec.URIs = []v1alpha1.URI{v1alpha1.URI("spiffe://example.internal/ns/" + f.namespace(i) + "/sa/" + name(i))}
		}))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, request{http.MethodPost, f.path(i, ""), "application/json", body})
	}
	return out
}

func (f fleet) path(i int, rest string) string {
	return "/apis/rekey.dev/v1alpha1/namespaces/" + f.namespace(i) + "/clientidentities" + rest
}
