// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/fixture"
)

// aRootAuthority returns a cluster authority that signs others for all namespaces.
func aRootAuthority(name string) *v1alpha1.ClusterCertificateAuthority {
	return fixture.ClusterAuthority(name, func(o *v1alpha1.ClusterCertificateAuthority) {
		o.Spec.Managed.CommonName, o.Spec.Managed.PathLength = "Root CA", new(int32(1))
		o.Spec.Constraints.URIs = []v1alpha1.URIPattern{"spiffe://example.internal/*"}
		o.Spec.Constraints.Subordinates = &v1alpha1.Subordinates{MaxLifetime: duration(8760 * time.Hour)}
	})
}

// aSubordinate returns the authority "internal", signed by a cluster authority.
func aSubordinate(root string) *v1alpha1.CertificateAuthority {
	return fixture.Authority(func(o *v1alpha1.CertificateAuthority) {
		o.Spec.Managed.Lifetime = duration(8760 * time.Hour)
		o.Spec.Managed.SignedBy = &v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(root)}
	})
}

func certificatesIn(t *testing.T, secret *corev1.Secret, key string) []*x509.Certificate {
	t.Helper()
	out, err := pki.ParseCertificates(secret.Data[key])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A subordinate waits for its root, is signed by it once, and from then on needs it no more. Its identities publish the intermediate
// in tls.crt and the root in ca.crt, and their handshakes succeed.
func TestASubordinateIsSignedOnceAndServesWithoutItsRoot(t *testing.T) {
	w := newWorld(t)
	root, authority, app, api := aRootAuthority(w.namespace+"-root"), aSubordinate(w.namespace+"-root"), aClientIdentity(), aServerIdentity()
	w.create(authority, app, api)
	w.reconcile(authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityNotFound")
	w.create(root)
	w.reconcile(authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/Progressing")
	for _, o := range []client.Object{root, authority, app, api} {
		w.settle(o, 5)
	}
	w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")

	rootSecret, own := w.secret("cluster-ca"), w.secret("internal-ca")
	chain, top := certificatesIn(t, own, "tls.crt"), certificatesIn(t, rootSecret, "tls.crt")
	if len(chain) != 2 || !chain[1].Equal(top[0]) || string(own.Data["ca.crt"]) != string(rootSecret.Data["tls.crt"]) {
		t.Fatalf("tls.crt has %d certificates, want the authority and its root; ca.crt is the root: %t", len(chain), string(own.Data["ca.crt"]) == string(rootSecret.Data["tls.crt"]))
	}
	for _, name := range []string{"app-mtls", "api-mtls"} {
		shown := w.secret(name)
		if got := certificatesIn(t, shown, "tls.crt"); len(got) != 2 || !got[1].Equal(chain[0]) || string(shown.Data["ca.crt"]) != string(rootSecret.Data["tls.crt"]) {
			t.Errorf("%s: tls.crt has %d certificates, want the leaf and the intermediate, and ca.crt the root", name, len(got))
		}
	}
	if err := w.handshake(w.secret("app-mtls"), w.secret("api-mtls")); err != nil {
		t.Error(err)
	}
	if !authority.Status.NotAfter.Time.Equal(chain[0].NotAfter) {
		t.Errorf("the status shows %s, the certificate %s", authority.Status.NotAfter, chain[0].NotAfter)
	}

	if err := w.client.Delete(w.ctx, root); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Delete(w.ctx, rootSecret); err != nil {
		t.Fatal(err)
	}
	w.step(time.Hour)
	w.restart()
	w.written()
	w.settle(authority, 3)
	if got := w.written(); len(got) > 0 {
		t.Errorf("a subordinate whose root is offline caused writes: %v", got)
	}
	w.request(app, v1alpha1.AnnotationRotate, "1")
	w.settle(app, 5)
	if app.Status.Revision != 2 {
		t.Errorf("the identity has revision %d, want a new certificate from an authority whose root is offline", app.Status.Revision)
	}
	if err := w.handshake(w.secret("app-mtls"), w.secret("api-mtls")); err != nil {
		t.Error(err)
	}
}

// A root signs nothing for an authority that it does not admit, and no key is created for one.
func TestARootRefusesASubordinateThatItDoesNotAdmit(t *testing.T) {
	for name, tc := range map[string]struct {
		root    func(*v1alpha1.ClusterCertificateAuthority)
		child   func(*v1alpha1.CertificateAuthority)
		reason  string
		words   []string
		stalled bool
	}{
		"the namespace is not selected": {func(o *v1alpha1.ClusterCertificateAuthority) { o.Spec.NamespaceSelector = nil }, nil,
			"AuthorityNotFound", []string{"its namespaceSelector does not select namespace"}, false},
		"it signs no authorities": {func(o *v1alpha1.ClusterCertificateAuthority) { o.Spec.Constraints.Subordinates = nil }, nil,
			"ConstraintViolated", []string{"constraints.subordinates is absent", "ask its owner to set it"}, true},
		"its constraints cannot be expressed": {func(o *v1alpha1.ClusterCertificateAuthority) {
			o.Spec.Constraints.URIs = []v1alpha1.URIPattern{"spiffe://example.internal/ns/web/*"}
		}, nil, "ConstraintViolated", []string{"constraints.uris", "spiffe://example.internal/ns/web/*", "use a pattern such as"}, true},
		"a lifetime that is too long": {nil, func(o *v1alpha1.CertificateAuthority) { o.Spec.Managed.Lifetime = duration(8761 * time.Hour) },
			"LifetimeTooLong", []string{"managed.lifetime 8761h0m0s", "constraints.subordinates.maxLifetime", "8760h0m0s", "create it with a shorter one"}, true},
		"a path length that is too long": {nil, func(o *v1alpha1.CertificateAuthority) { o.Spec.Managed.PathLength = new(int32(1)) },
			"ConstraintViolated", []string{"managed.pathLength 1", "maximumPathLength", "create it with a lower one"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root, authority := aRootAuthority(w.namespace+"-root"), aSubordinate(w.namespace+"-root")
			if tc.root != nil {
				tc.root(root)
			}
			if tc.child != nil {
				tc.child(authority)
			}
			ready(w, root)
			w.create(authority)
			w.settle(authority, 5)
			w.wantCondition(authority, v1alpha1.ConditionReady, "False/"+tc.reason)
			message := meta.FindStatusCondition(authority.Status.Conditions, v1alpha1.ConditionReady).Message
			for _, word := range tc.words {
				if !strings.Contains(message, word) {
					t.Errorf("the message is %q, want %q in it", message, word)
				}
			}
			if meta.IsStatusConditionTrue(authority.Status.Conditions, v1alpha1.ConditionStalled) != tc.stalled {
				t.Errorf("stalled: %t, want %t", !tc.stalled, tc.stalled)
			}
			var secrets corev1.SecretList
			if err := w.client.List(w.ctx, &secrets, client.InNamespace(w.namespace)); err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(secrets.Items, func(s corev1.Secret) bool { return s.Name == "internal-ca" }) {
				t.Error("a key was created for an authority without a certificate")
			}
			w.edit(root, func() {
				good := aRootAuthority(root.Name)
				root.Spec.NamespaceSelector, root.Spec.Constraints = good.Spec.NamespaceSelector, good.Spec.Constraints
				root.Spec.Constraints.Subordinates.MaxLifetime = duration(9000 * time.Hour)
			})
			if tc.reason == "ConstraintViolated" && tc.child != nil {
				return // only another path length helps, which is immutable
			}
			w.step(time.Minute)
			w.settle(root, 3)
			w.settle(authority, 5)
			w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
		})
	}
}

// A root that is being deleted signs nothing more, and no key is created.
func TestARootThatIsBeingDeletedSignsNoAuthority(t *testing.T) {
	w := newWorld(t)
	root, authority := aRootAuthority(w.namespace+"-root"), aSubordinate(w.namespace+"-root")
	root.Finalizers = []string{"example.com/waits"}
	ready(w, root)
	if err := w.client.Delete(w.ctx, root); err != nil {
		t.Fatal(err)
	}
	w.create(authority)
	w.settle(authority, 5)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityNotReady")
	if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "internal-ca"}, &corev1.Secret{}); err == nil {
		t.Error("a root that is being deleted has signed an authority")
	}
	w.edit(root, func() { root.Finalizers = nil })
	w.step(time.Minute)
	w.settle(authority, 5)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityNotFound")
}

// Two authorities that are to sign each other wait, and no key is created for either.
func TestAuthoritiesThatNameEachOtherWait(t *testing.T) {
	w := newWorld(t)
	one, other := anAuthority(), anAuthority()
	one.Name, one.Spec.Managed.SecretName, one.Spec.Managed.SignedBy = "one", "one-ca", &v1alpha1.AuthorityReference{Name: "other"}
	other.Name, other.Spec.Managed.SecretName, other.Spec.Managed.SignedBy = "other", "other-ca", &v1alpha1.AuthorityReference{Name: "one"}
	w.create(one, other)
	for range 3 {
		w.settle(one, 5)
		w.settle(other, 5)
		w.step(time.Minute)
	}
	for _, o := range []*v1alpha1.CertificateAuthority{one, other} {
		w.wantCondition(o, v1alpha1.ConditionReady, "False/AuthorityNotReady")
		if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: string(o.Spec.Managed.SecretName)}, &corev1.Secret{}); err == nil {
			t.Errorf("a key was created for %s", o.Name)
		}
	}
}

// The signer of an authority is in an index of its own, for the watch over signers. Other authorities do not depend on that watch.
func TestTheSignerOfAnAuthorityIsIndexed(t *testing.T) {
	for _, of := range []v1alpha1.AuthorityKind{v1alpha1.AuthorityKindCluster, v1alpha1.AuthorityKindNamespaced} {
		object := aSubordinate("root")
		object.Spec.Managed.SignedBy.Kind = of
		if got := signerNamed(of)(object); got != "root" {
			t.Errorf("the index of %s holds %q", of, got)
		}
		for _, other := range []client.Object{anAuthority(), &metav1.PartialObjectMetadata{}} {
			if got := signerNamed(of)(other); got != "" {
				t.Errorf("the index of %s holds %q for %T", of, got, other)
			}
		}
	}
	for object, want := range map[client.Object]int{anAuthority(): 2, aSubordinate("root"): 3, aRootAuthority("root"): 2, aClientIdentity(): 6} {
		if got := len(allKinds().kube().Watched(object)); got != want {
			t.Errorf("%T %s depends on %d watches, want %d", object, object.GetName(), got, want)
		}
	}
}
