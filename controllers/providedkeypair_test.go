// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
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

// providedPair is an authority that a user provides: a key, with one or more certificates for it.
type providedPair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func (b providedPair) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.certificate.Raw})
}

func (b providedPair) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(b.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// providePair creates a new key with a certificate; again creates one more certificate for the key of b.
func providePair(t *testing.T, name string, above *providedPair, change func(*x509.Certificate)) providedPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return providedPair{&x509.Certificate{Subject: pkix.Name{CommonName: name}}, key}.again(t, above, change)
}

func (b providedPair) again(t *testing.T, above *providedPair, change func(*x509.Certificate)) providedPair {
	t.Helper()
	id, err := pki.SubjectKeyID(b.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: b.certificate.Subject, NotBefore: begin,
		NotAfter: begin.Add(8760 * time.Hour), BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, SubjectKeyId: id,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if change != nil {
		change(template)
	}
	parent, signer := template, b.key
	if above != nil {
		parent, signer = above.certificate, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, b.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return providedPair{certificate, b.key}
}

// unrelatedRoots is a bundle of unrelated roots.
func unrelatedRoots(t *testing.T, n int) []byte {
	t.Helper()
	var out []byte
	for i := range n {
		out = append(out, providePair(t, fmt.Sprintf("Regional Root %d of the Example Organization", i), nil, nil).pem()...)
	}
	return out
}

// createProvidedAuthority stores a key pair and the authority that uses it.
func createProvidedAuthority(t *testing.T, signing providedPair, crt, anchors []byte) (*corev1.Secret, *v1alpha1.CertificateAuthority) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "brought-ca", Labels: map[string]string{v1alpha1.LabelAllow: "true"}}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": crt, "tls.key": signing.keyPEM(t)}}
	if anchors != nil {
		secret.Data["ca.crt"] = anchors
	}
	authority := anAuthority()
	fixture.SetKeyPair(&authority.Spec, "brought-ca")
	return secret, authority
}

// wantVerified fails the test unless the Secret's certificate verifies with only the other data of the Secret.
func wantVerified(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	published, err := pki.ParseTLSSecret(secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := published.Verify(time.Now()); err != nil {
		t.Errorf("what is published does not verify with its own ca.crt: %v", err)
	}
}

func message(o client.Object, kind string) string {
	if c := meta.FindStatusCondition(fixture.Conditions(o), kind); c != nil {
		return c.Message
	}
	return ""
}

// An optional ca.crt is absent, is used, or is an error that changes nothing that is published: one that is empty, too long or
// unreadable never counts as absent.
func TestAnOptionalCACrtIsUsedOrRefusedButNeverIgnored(t *testing.T) {
	root := providePair(t, "Root", nil, nil)
	middle := providePair(t, "Issuing CA", &root, nil)
	for name, tc := range map[string]struct {
		anchors []byte
		want    string // Empty: it is used.
	}{
		"the root alone":                  {root.pem(), ""},
		"the root and 60 others":          {slices.Concat(root.pem(), unrelatedRoots(t, 60)), ""},
		"300 others and the root":         {slices.Concat(unrelatedRoots(t, 300), root.pem()), ""},
		"empty":                           {[]byte{}, "its key ca.crt is empty: set it to the right value, or remove the key"},
		"white space":                     {[]byte(" \n"), "ca.crt is empty"},
		"longer than is read":             {slices.Concat(bytes.Repeat([]byte("# a comment\n"), 25000), root.pem()), "at most 262144 are allowed"},
		"more certificates than are read": {slices.Concat(bytes.Repeat([]byte("-----BEGIN "), 501), root.pem()), "at most 500 certificates are read"},
		"no certificates":                 {[]byte("hunter2"), "ca.crt holds no PEM block"},
		"damaged":                         {root.pem()[:300], "its END line is missing"},
		"base64 twice":                    {[]byte("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg=="), "encoded twice"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			secret, authority := createProvidedAuthority(t, middle, middle.pem(), root.pem())
			identity := aClientIdentity()
			ready(w, secret, authority, identity)
			before := w.secret("app-mtls").Data
			w.edit(secret, func() { secret.Data["ca.crt"] = tc.anchors })
			w.step(time.Minute)
			w.reconcile(authority)
			w.reconcile(identity)
			after := w.secret("app-mtls")
			wantVerified(t, after)
			if tc.want != "" {
				if got := message(authority, v1alpha1.ConditionReady); !strings.Contains(got, tc.want) || strings.Contains(got, "hunter2") {
					t.Errorf("Ready says %q, want %q", got, tc.want)
				}
				if condition(authority, v1alpha1.ConditionReady)[:5] != "False" {
					t.Errorf("Ready is %s", condition(authority, v1alpha1.ConditionReady))
				}
				if !maps.EqualFunc(before, after.Data, bytes.Equal) {
					t.Error("what is published changed")
				}
				return
			}
			w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
			if !bytes.Equal(after.Data["ca.crt"], tc.anchors) || !bytes.Equal(after.Data["tls.key"], before["tls.key"]) {
				t.Errorf("ca.crt has %d bytes, want the %d of the authority, and no new key", len(after.Data["ca.crt"]), len(tc.anchors))
			}
		})
	}
}

// The certificate of an authority changes, and its key does not: what is published follows in one write that verifies, or
// stays as it is. No certificate is reissued, and its expiry is watched even if none can be issued.
func TestANewCertificateOfTheSameKeyNeverBreaksWhatIsPublished(t *testing.T) {
	root, other := providePair(t, "Root", nil, nil), providePair(t, "Other Root", nil, nil)
	middle := providePair(t, "Issuing CA", &root, nil)
	later := func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(1000 * time.Hour) }
	unrelated := providePair(t, "Unrelated", nil, nil)
	for name, tc := range map[string]struct {
		crt, anchors       []byte
		newCrt, newAnchors []byte
		// follows is true if chain or anchors must change.
		follows bool
	}{
		"the intermediate alone, renewed":              {middle.pem(), nil, middle.again(t, &root, later).pem(), nil, true},
		"another root has signed it":                   {middle.pem(), root.pem(), middle.again(t, &other, nil).pem(), other.pem(), true},
		"another root has signed it, both are trusted": {middle.pem(), root.pem(), middle.again(t, &other, nil).pem(), slices.Concat(root.pem(), other.pem()), true},
		"the root is renewed with its key":             {middle.pem(), root.pem(), middle.pem(), root.again(t, nil, later).pem(), true},
		"an unrelated root is trusted beside the root": {middle.pem(), root.pem(), middle.pem(), slices.Concat(unrelated.pem(), root.pem()), true},
		"the order of the anchors changes":             {middle.pem(), slices.Concat(unrelated.pem(), root.pem()), middle.pem(), slices.Concat(root.pem(), unrelated.pem()), true},
		"renewed by the same root":                     {middle.pem(), root.pem(), middle.again(t, &root, later).pem(), root.pem(), false},
		"only an unrelated root is trusted":            {middle.pem(), root.pem(), middle.pem(), unrelated.pem(), false},
		"name constraints now exclude what was published": {middle.pem(), root.pem(), middle.again(t, &other, func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"elsewhere.internal"}, true
		}).pem(), other.pem(), false},
	} {
		for _, suspended := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, suspended %t", name, suspended), func(t *testing.T) {
				w := newWorld(t)
				secret, authority := createProvidedAuthority(t, middle, tc.crt, tc.anchors)
				identity := aServerIdentity()
				ready(w, secret, authority, identity)
				w.edit(identity, func() { identity.Spec.Suspend = suspended })
				before := w.secret("api-mtls")
				w.edit(secret, func() {
					secret.Data["tls.crt"] = tc.newCrt
					delete(secret.Data, "ca.crt")
					if tc.newAnchors != nil {
						secret.Data["ca.crt"] = tc.newAnchors
					}
				})
				w.step(time.Minute)
				w.reconcile(authority)
				w.reconcile(identity)
				writes := w.written()
				after := w.secret("api-mtls")
				wantVerified(t, after)
				if !bytes.Equal(after.Data["tls.key"], before.Data["tls.key"]) || identity.Status.Revision != 1 || identity.Status.SerialNumber == "" || identity.Status.NotAfter == nil {
					t.Errorf("revision %d, serial number %q: the certificate was reissued, or is not reported", identity.Status.Revision, identity.Status.SerialNumber)
				}
				changed := !bytes.Equal(after.Data["tls.crt"], before.Data["tls.crt"]) || !bytes.Equal(after.Data["ca.crt"], before.Data["ca.crt"])
				if changed != tc.follows {
					t.Errorf("what is published changed: %t, want %t", changed, tc.follows)
				}
				if n := len(slices.DeleteFunc(writes, func(x write) bool { return x.kind != "Secret" })); tc.follows && n != 1 || !tc.follows && n != 0 {
					t.Errorf("%d writes of Secrets: %v", n, writes)
				}
				w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
				w.clock.SetTime(after.CreationTimestamp.Add(identity.Status.NotAfter.Sub(after.CreationTimestamp.Time) - time.Minute))
				if suspended {
					w.reconcile(identity)
					w.wantCondition(identity, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
				}
			})
		}
	}
}

// An authority that keeps its key and gets another name reissues everything, as with a new key: a peer that trusts only its
// new certificate finds no issuer of the old ones.
func TestARenamedAuthorityReissuesEveryCertificate(t *testing.T) {
	root := providePair(t, "Root", nil, nil)
	middle := providePair(t, "Issuing CA", &root, nil)
	rename := func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "Renamed", Organization: []string{"Example"}}
	}
	for name, tc := range map[string]struct {
		before, after providedPair
		anchors       []byte
	}{
		"a root":          {root, root.again(t, nil, rename), nil},
		"an intermediate": {middle, middle.again(t, &root, rename), root.pem()},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			secret, authority := createProvidedAuthority(t, tc.before, tc.before.pem(), tc.anchors)
			clientSide, serverSide := aClientIdentity(), aServerIdentity()
			ready(w, secret, authority, clientSide, serverSide)
			w.edit(secret, func() { secret.Data["tls.crt"] = tc.after.pem() })
			w.step(time.Minute)
			w.reconcile(authority)
			for range 2 {
				w.settle(clientSide, 5)
				w.settle(serverSide, 5)
				w.step(time.Minute)
			}
			if clientSide.Status.Revision != 2 || serverSide.Status.Revision != 2 {
				t.Errorf("revisions %d and %d, want 2", clientSide.Status.Revision, serverSide.Status.Revision)
			}
			if err := w.handshake(w.secret("app-mtls"), w.secret("api-mtls")); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is published has lines of 64 characters. A ca.crt with longer lines gets longer by that, and must not become too long
// to be read.
func TestACACrtOfLongLinesIsReadAsItIsPublished(t *testing.T) {
	root := providePair(t, "Root", nil, nil)
	line := func(b providedPair) []byte {
		return []byte("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(b.certificate.Raw) + "\n-----END CERTIFICATE-----\n")
	}
	large := func(c *x509.Certificate) { c.DNSNames = slices.Repeat([]string{strings.Repeat("y", 60)}, 20) }
	file := line(root)
	for {
		next := line(providePair(t, "Another", nil, large))
		if len(file)+len(next) > pki.MaxCertificateBytes {
			break
		}
		file = append(file, next...)
	}
	w := newWorld(t)
	secret, authority := createProvidedAuthority(t, root, root.pem(), file)
	identity := aServerIdentity()
	w.create(secret, authority, identity)
	w.settle(authority, 3)
	w.settle(identity, 5)
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityInvalid")
	if text := message(authority, v1alpha1.ConditionReady); !strings.Contains(text, "ca.crt is ") || !strings.Contains(text, "at most 262144 are allowed") {
		t.Errorf("the authority reports: %s", text)
	}
	w.wantCondition(identity, v1alpha1.ConditionReady, "False/AuthorityNotReady")
}

// A Secret with a manually edited ca.crt is repaired, with its certificate, if its authority is available; otherwise the
// certificate is still watched, and Ready reports that it does not verify.
func TestAManuallyEditedCACrtIsRepaired(t *testing.T) {
	unrelated := providePair(t, "Unrelated", nil, nil)
	for name, value := range map[string][]byte{"unrelated": unrelated.pem(), "nothing": nil, "junk": []byte("junk")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			authority, identity := anAuthority(), aClientIdentity()
			ready(w, authority, identity)
			good := w.secret("app-mtls").Data
			spoil := func() {
				published := w.secret("app-mtls")
				w.edit(published, func() { published.Data["ca.crt"] = value })
			}
			spoil()
			w.reconcile(identity)
			if after := w.secret("app-mtls"); !maps.EqualFunc(good, after.Data, bytes.Equal) {
				t.Error("it is not repaired with the certificate that it had")
			}
			w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
			if err := w.client.Delete(w.ctx, authority); err != nil {
				t.Fatal(err)
			}
			spoil()
			w.restart()
			w.reconcile(identity)
			if identity.Status.Revision != 1 || identity.Status.NotAfter == nil {
				t.Errorf("the certificate is no longer reported: %+v", identity.Status)
			}
			w.wantCondition(identity, v1alpha1.ConditionReady, "False/CertificateInvalid")
			w.clock.SetTime(identity.Status.NotAfter.Add(-time.Minute))
			w.reconcile(identity)
			w.wantCondition(identity, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
		})
	}
}
