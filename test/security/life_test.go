// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/size"
)

// life is one life of every kind, from creation to deletion, with every failure that can be provoked.
type life struct {
	*cluster
	witness   *witness
	databases []*database
	operators []*operator
	// seen holds the contents of objects after each failure.
	seen objectParts
}

// runLife runs the life. The questions are about its traces.
func runLife(t *testing.T, folder string) *life {
	t.Helper()
	l := &life{cluster: install(t, folder)}
	l.witness = l.watch()
	for _, version := range versions(t, folder) {
		l.databases = append(l.databases, startDatabase(t, version))
	}
	binary := shipped(t)
	l.operators = append(l.operators, l.run(binary, "rekey"))
	for _, provoke := range []func(){l.begin, l.rotate, l.causeFailures, l.refuse, l.failWrites, l.tamper} {
		provoke()
		l.snapshot()
	}
	// A second process takes over from one that dies, and exits cleanly. The counters of the first one die with it.
	l.operators[0].scrape()
	l.operators[0].kill()
	l.operators = append(l.operators, l.run(binary, "rekey"))
	l.end()
	return l
}

// versions returns the versions of PostgreSQL in a life. In make test, the lives under the two installations share them: one each.
func versions(t *testing.T, folder string) []int {
	t.Helper()
	all := slices.Clone(pgtest.Versions)
	size.RandomFrom(t, 1).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if folder == strict {
		slices.Reverse(all)
	}
	return all[:size.Choose(1, len(all), len(all))]
}

// has waits until any condition of the object has the reason.
func (l *life) has(kind, name, reason string) {
	l.t.Helper()
	l.until(fmt.Sprintf("waiting until %s %s reports %s", kind, name, reason), func() error {
		conditions, err := l.conditions(kind, name)
		if err != nil {
			return err
		}
		var all []string
		for _, c := range conditions {
			if c.Reason == reason {
				return nil
			}
			all = append(all, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
		return fmt.Errorf("it reports %s", strings.Join(all, "; "))
	})
}

func (c *cluster) conditions(kind, name string) ([]metav1.Condition, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	namespace, bare, scoped := strings.Cut(name, "/")
	if !scoped {
		namespace, bare = tenant, name
	}
	if strings.HasPrefix(kind, "Cluster") {
		namespace = ""
	}
	if err := c.client.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: bare}, object); err != nil {
		return nil, err
	}
	var status struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	return status.Status.Conditions, decode(object, &status, &status.Status.Conditions)
}

const authorities = `
apiVersion: rekey.dev/v1alpha1
kind: ClusterCertificateAuthority
metadata: {name: internal}
spec:
  managed: {commonName: Internal, keyAlgorithm: ECDSA-P384, secretName: internal-ca}
  namespaceSelector: {matchLabels: {internal-mtls: "true"}}
  constraints: {commonNames: ["*"], dnsNames: ["*.example.internal"], uris: ["spiffe://example.internal/*"]}
---
apiVersion: rekey.dev/v1alpha1
kind: CertificateAuthority
metadata: {name: own, namespace: web}
spec: {managed: {commonName: Own, keyAlgorithm: Ed25519, secretName: own-ca}, constraints: {commonNames: ["*"]}}
---
apiVersion: rekey.dev/v1alpha1
kind: CertificateAuthority
metadata: {name: brief, namespace: web}
spec: {managed: {commonName: Brief, secretName: brief-ca}, deletionPolicy: Delete, constraints: {commonNames: ["*"]}}
---
apiVersion: rekey.dev/v1alpha1
kind: CertificateAuthority
metadata: {name: brought, namespace: web}
spec: {keyPair: {secretName: brought-ca}, constraints: {commonNames: ["*"], dnsNames: ["*.example.internal"]}}
---
apiVersion: rekey.dev/v1alpha1
kind: RotationPolicy
metadata: {name: brisk, namespace: web}
spec: {interval: 30s, overlap: {minimum: 1s}, warnBefore: 10s, alarmBefore: 5s}
---
apiVersion: rekey.dev/v1alpha1
kind: ClientIdentity
metadata: {name: client, namespace: web}
spec: {authorityRef: {kind: ClusterCertificateAuthority, name: internal}, commonName: client, lifetime: 90s, renewBefore: 30s, formats: [CombinedPEM, DER, PKCS12, JKS], keystore: {passwordSecretRef: {name: client-keystore}}, secretName: client-mtls, deletionPolicy: Delete}
---
apiVersion: rekey.dev/v1alpha1
kind: ClientIdentity
metadata: {name: own-client, namespace: web}
spec: {authorityRef: {name: own}, commonName: own, keyAlgorithm: Ed25519, secretName: own-mtls}
---
apiVersion: rekey.dev/v1alpha1
kind: ServerIdentity
metadata: {name: server, namespace: web}
spec: {authorityRef: {name: brought}, dnsNames: [a.example.internal], keyAlgorithm: RSA-2048, rotationPolicyRef: {name: brisk}, secretName: server-mtls}
`

// keyPair is a key pair that a user provides.
func keyPair(t *testing.T, namespace, name string) *corev1.Secret {
	t.Helper()
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: name, KeyAlgorithm: "RSA-2048", Lifetime: 1000 * time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": crt, "tls.key": key.Reveal()}}
}

// begin creates one of every kind, with kubectl, and waits until all of them are ready.
func (l *life) begin() {
	l.t.Helper()
	manifests := authorities
	l.create(keyPair(l.t, tenant, "brought-ca"), &corev1.Secret{Data: map[string][]byte{"password": []byte("Kuckucksuhr 4711 im Schwarzwald")},
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "client-keystore", Labels: map[string]string{v1alpha1.LabelAllow: "true"}}})
	for _, d := range l.databases {
		anchors := fmt.Sprintf("ca-%d", d.Version)
		l.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: anchors}, Data: map[string]string{"ca.crt": string(d.Authority.PEM)}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: anchors, Labels: map[string]string{v1alpha1.LabelAllow: "true"}}, Data: map[string][]byte{"ca.crt": d.Authority.PEM}})
		for _, admin := range append([]string{"weak"}, admins...) {
			name := fmt.Sprintf("%s-%d", admin, d.Version)
			l.create(adminSecret(name+"-admin", admin, d.passwords[admin], d.Address()))
			from := "ConfigMap/" + anchors
			if admin == "granted" {
				from = "Secret/" + anchors
			}
			manifests += serverManifest(name, d.Address(), name+"-admin", from)
			if admin != "weak" {
				manifests += credentialManifest(name, name, admin+"_app", ", deletionPolicy: Delete")
			}
		}
	}
	l.apply(manifests)
	l.has("ClusterCertificateAuthority", "internal", "Serving")
	for _, name := range []string{"own", "brief", "brought"} {
		l.has("CertificateAuthority", name, "Serving")
	}
	l.has("RotationPolicy", "brisk", "Accepted")
	l.has("ClientIdentity", "client", "Published")
	l.has("ClientIdentity", "own-client", "Published")
	l.has("ServerIdentity", "server", "Published")
	for _, name := range l.credentials() {
		l.has("DatabaseServer", name, "Serving")
		l.has("DatabaseCredential", name, "Published")
	}
}

func (l *life) credentials() []string {
	var out []string
	for _, d := range l.databases {
		for _, admin := range admins {
			out = append(out, fmt.Sprintf("%s-%d", admin, d.Version))
		}
	}
	return out
}

func credentialNamed(name string) *v1alpha1.DatabaseCredential {
	return &v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name}}
}

func identityNamed(name string) *v1alpha1.ClientIdentity {
	return &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name}}
}

// annotate sets an annotation as a user does.
func (c *cluster) annotate(o client.Object, key, value string) {
	c.t.Helper()
	c.edit(o, func() {
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[key] = value
		o.SetAnnotations(annotations)
	})
}

// rotate moves every credential through both of its slots, and retires the previous versions. Short certificates renew on
// their own meanwhile.
func (l *life) rotate() {
	l.t.Helper()
	for round := int64(2); round <= 3; round++ {
		for _, name := range l.credentials() {
			l.annotate(credentialNamed(name), v1alpha1.AnnotationRotate, fmt.Sprint("round ", round))
		}
		for _, name := range l.credentials() {
			o := credentialNamed(name)
			l.until("rotating "+name, func() error {
				if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
					return err
				}
				if o.Status.Revision < round {
					return fmt.Errorf("revision %d: %+v", o.Status.Revision, o.Status.Conditions)
				}
				return nil
			})
			l.annotate(o, v1alpha1.AnnotationRetirePrevious, fmt.Sprint("round ", round))
		}
	}
	l.annotate(identityNamed("own-client"), v1alpha1.AnnotationRotate, "now")
	l.until("waiting for a renewal by schedule", func() error {
		o := identityNamed("client")
		if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if o.Status.Revision < 2 {
			return fmt.Errorf("revision %d", o.Status.Revision)
		}
		return nil
	})
	if l.folder == strict {
		return // In that installation, changing the owner of a ConfigMap requires the right to delete it, which rekey does not have.
	}
	// The Secret and the record of a managed authority follow its deletion policy.
	own := &v1alpha1.CertificateAuthority{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "own"}}
	l.edit(own, func() { own.Spec.DeletionPolicy = v1alpha1.DeletionDelete })
	l.until("deleting the authority's record with it", func() error {
		var records corev1.ConfigMapList
		if err := l.client.List(l.t.Context(), &records, client.InNamespace(tenant), client.MatchingLabels{v1alpha1.LabelKind: "CertificateAuthority"}); err != nil {
			return err
		}
		if len(records.Items) != 2 || len(records.Items[0].OwnerReferences) != 1 || len(records.Items[1].OwnerReferences) != 1 {
			return fmt.Errorf("%d records, and not each has an owner", len(records.Items))
		}
		return nil
	})
}

// end deletes everything, and recreates some of it.
func (l *life) end() {
	l.t.Helper()
	for _, o := range []client.Object{identityNamed("client"), credentialNamed(l.credentials()[0])} {
		l.remove(o)
	}
	l.until("deleting a credential", func() error {
		o := credentialNamed(l.credentials()[0])
		if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(o), o); apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it still exists: %+v", o.Status.Conditions)
	})
	name := l.credentials()[0]
	l.apply(credentialManifest(name, name, fmt.Sprintf("%s_app", admins[0]), ""))
	l.has("DatabaseCredential", name, "Published")
	for _, name := range l.credentials() {
		l.remove(credentialNamed(name))
	}
	l.remove(&v1alpha1.CertificateAuthority{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "own"}})
	for _, name := range l.credentials() {
		l.until("deleting "+name, func() error {
			err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(credentialNamed(name)), credentialNamed(name))
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("it still exists: %w", err)
		})
	}
}
