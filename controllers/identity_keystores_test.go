// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/test/fixture"
)

// aKeystorePassword is a Secret of a user.
func aKeystorePassword(password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "app-keystore", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Data:       map[string][]byte{"password": []byte(password)},
	}
}

// anAdminPassword is in the admin Secret of a server.
func anAdminPassword() *corev1.Secret {
	out := anAdminSecret()
	out.Name = "app-keystore"
	return out
}

// anIdentityWithKeystores has files for Java.
func anIdentityWithKeystores(formats ...v1alpha1.Format) *v1alpha1.ClientIdentity {
	identity := aClientIdentity()
	identity.Spec.Formats = formats
	identity.Spec.Keystore = &v1alpha1.Keystore{PasswordSecretRef: v1alpha1.SecretKeyReference{Name: "app-keystore"}}
	return identity
}

// wantMessage fails the test unless the condition's message has the text.
func (w *world) wantMessage(o client.Object, kind, want string) {
	w.t.Helper()
	found := meta.FindStatusCondition(fixture.Conditions(o), kind)
	if found == nil || !strings.Contains(found.Message, want) {
		w.t.Errorf("the message of %s does not have %q:%s", kind, want, describeConditions(o))
	}
}

// serialIn returns the serial number of the certificate in keystore.p12, in the form of the status.
func serialIn(t *testing.T, secret *corev1.Secret, password string) string {
	t.Helper()
	_, leaf, _, err := pkcs12.DecodeChain(secret.Data["keystore.p12"], password)
	if err != nil {
		t.Fatalf("reading keystore.p12: %v", err)
	}
	anchors, err := pkcs12.DecodeTrustStore(secret.Data["truststore.p12"], password)
	if err != nil || len(anchors) == 0 {
		t.Fatalf("reading truststore.p12: %v, %d trust anchors", err, len(anchors))
	}
	return fmt.Sprintf("%x", leaf.SerialNumber)
}

func TestKeystoresArePublishedWithTheirCertificateInOneWrite(t *testing.T) {
	w := newWorld(t)
	identity := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS, v1alpha1.FormatDER, v1alpha1.FormatCombinedPEM)
	ready(w, anAuthority())
	w.create(aKeystorePassword("first password"), identity)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if writes := w.written(); len(writes) != 2 {
		t.Errorf("it took the writes %v, want the Secret and the status", writes)
	}
	if events := w.events(); len(events) != 1 {
		t.Errorf("it took the Events %q, want one", events)
	}
	secret := w.secret("app-mtls")
	keys := make([]string, 0, len(secret.Data))
	for key, value := range secret.Data {
		keys = append(keys, key)
		if bytes.Contains(value, []byte("first password")) {
			t.Errorf("%s shows the password", key)
		}
	}
	slices.Sort(keys)
	if got := strings.Join(keys, " "); got != "ca.crt key.der keystore.jks keystore.p12 tls-combined.pem tls.crt tls.der tls.key truststore.jks truststore.p12" {
		t.Errorf("the Secret has %s", got)
	}
	if got := serialIn(t, secret, "first password"); !strings.HasSuffix(identity.Status.SerialNumber, got) {
		t.Errorf("keystore.p12 has the certificate %s, the status names %s", got, identity.Status.SerialNumber)
	}
	if result := w.reconcile(identity); result.RequeueAfter > lifecycle.RecheckHealthy {
		t.Errorf("the password is read again after %s", result.RequeueAfter)
	}
}

func TestAChangedPasswordRewritesTheKeystoresWithoutANewCertificate(t *testing.T) {
	w := newWorld(t)
	identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS), aKeystorePassword("first password")
	ready(w, anAuthority())
	w.create(password, identity)
	w.settle(identity, 3)
	before := identity.Status.SerialNumber
	w.events()
	for name, change := range map[string]func(){
		"another password": func() { w.edit(password, func() { password.Data["password"] = []byte("second password") }) },
		"another alias":    func() { w.edit(identity, func() { identity.Spec.Keystore.Alias = "orders" }) }, // in keystore.jks
		"another profile":  func() { w.edit(identity, func() { identity.Spec.Keystore.Profile = v1alpha1.KeystoreLegacyDES }) },
	} {
		old := w.secret("app-mtls")
		change()
		w.reconcile(identity)
		if events := w.events(); len(events) != 1 || !with(events, "Normal KeystoreWritten", "Revision 1 ", "keystore.jks, keystore.p12, truststore.jks, truststore.p12", "key password of Secret app-keystore") {
			t.Errorf("%s: it reported %q, want one KeystoreWritten", name, events)
		}
		secret := w.secret("app-mtls")
		if bytes.Equal(old.Data["keystore.p12"], secret.Data["keystore.p12"]) || !bytes.Equal(old.Data["tls.crt"], secret.Data["tls.crt"]) {
			t.Errorf("%s: the keystore is the old one, or the certificate is not", name)
		}
		w.get(password)
		if got := serialIn(t, secret, string(password.Data["password"])); !strings.HasSuffix(before, got) {
			t.Errorf("%s: keystore.p12 has the certificate %s, want %s", name, got, before)
		}
		w.written()
		w.reconcile(identity)
		if writes := w.written(); len(writes) > 0 {
			t.Errorf("%s: the next reconcile wrote %v", name, writes)
		}
	}
	if events := w.events(); len(events) > 0 {
		t.Errorf("it reported %q", events)
	}
}

func TestAFirstCertificateWaitsForThePasswordAndNamesWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		password *corev1.Secret
		want     string
		text     string
	}{
		"missing": {nil, "False/SecretNotFound", "app-keystore not found: create it with the keys password and the label rekey.dev/allow=true"},
		"not allowed": {&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app-keystore"}, Data: map[string][]byte{"password": []byte("first password")}},
			"False/SecretNotAllowed", "label secret app-keystore rekey.dev/allow=true"},
		"another key": {&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app-keystore", Labels: map[string]string{v1alpha1.LabelAllow: "true"}}, Data: map[string][]byte{"pass": []byte("first password")}},
			"False/SecretInvalid", "its key password is missing or empty: set it to the right value"},
		"that of an admin":  {anAdminPassword(), "False/SecretInvalid", "its key host shows that it is the admin Secret of a server: put the password of the keystores into a Secret of its own"},
		"too short":         {aKeystorePassword("short"), "False/SecretInvalid", "its key password is 5 characters long, but keytool and Java need at least 6: choose a longer one"},
		"with a line break": {aKeystorePassword("first password\n"), "False/SecretInvalid", "its key password ends with a line break, which applications do not send"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			identity := anIdentityWithKeystores(v1alpha1.FormatJKS)
			ready(w, anAuthority())
			if tc.password != nil {
				w.create(tc.password)
			}
			w.create(identity)
			result := w.reconcile(identity)
			w.wantCondition(identity, v1alpha1.ConditionReady, tc.want)
			w.wantMessage(identity, v1alpha1.ConditionReady, "keystore.jks, truststore.jks wait for their password")
			w.wantMessage(identity, v1alpha1.ConditionReady, tc.text)
			if result.RequeueAfter > lifecycle.RecheckBroken {
				t.Errorf("the password is read again after %s", result.RequeueAfter)
			}
			if tc.password != nil {
				if err := w.client.Delete(w.ctx, tc.password); err != nil {
					t.Fatal(err)
				}
			}
			w.create(aKeystorePassword("first password"))
			w.step(lifecycle.RecheckBroken)
			w.settle(identity, 3)
			w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
			if len(w.secret("app-mtls").Data["keystore.jks"]) == 0 {
				t.Error("keystore.jks is missing")
			}
		})
	}
}

// A deleted password stops nothing except the keystores. They expire with the certificate that they hold, which is announced.
func TestAMissingPasswordDefersOnlyTheKeystores(t *testing.T) {
	w := newWorld(t)
	identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12), aKeystorePassword("first password")
	ready(w, anAuthority())
	w.create(password, identity)
	w.settle(identity, 3)
	first := w.secret("app-mtls")
	firstSerial := identity.Status.SerialNumber
	if err := w.client.Delete(w.ctx, password); err != nil {
		t.Fatal(err)
	}
	w.events()
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "True/SecretNotFound")
	if events := w.events(); len(events) != 1 || !strings.HasPrefix(events[0], "Warning SecretNotFound") {
		t.Errorf("it reported %q", events)
	}

	w.step(17 * time.Hour) // renewed after 16 of 24 hours
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantMessage(identity, v1alpha1.ConditionReady, "Its keystores still hold revision 1, which expires at ")
	renewed := w.secret("app-mtls")
	if identity.Status.Revision != 2 || bytes.Equal(renewed.Data["tls.crt"], first.Data["tls.crt"]) {
		t.Errorf("revision %d: the certificate was not renewed", identity.Status.Revision)
	}
	if got := serialIn(t, renewed, "first password"); !strings.HasSuffix(firstSerial, got) {
		t.Error("the keystores are not those of the first certificate")
	}

	w.step(6*time.Hour + 10*time.Minute)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
	w.wantMessage(identity, v1alpha1.ConditionExpiringSoon, "The certificate in keystore.p12, truststore.p12 of Secret ")
	w.step(time.Hour)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "False/Expired")
	w.wantMessage(identity, v1alpha1.ConditionReady, "while tls.crt is valid until ")

	w.create(aKeystorePassword("second password"))
	w.events()
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(identity, v1alpha1.ConditionExpiringSoon, "")
	if events := w.events(); len(events) != 1 || !with(events, "Normal KeystoreWritten", "Revision 2 ") {
		t.Errorf("it reported %q, want one KeystoreWritten", events)
	}
	last := w.secret("app-mtls")
	if !bytes.Equal(last.Data["tls.crt"], renewed.Data["tls.crt"]) {
		t.Error("the password alone caused a new certificate")
	}
	if got := serialIn(t, last, "second password"); !strings.HasSuffix(identity.Status.SerialNumber, got) {
		t.Error("the keystores are not those of the current certificate")
	}
}

// A password that cannot be read for a while, and is the same afterwards, changes nothing.
func TestAPasswordThatCannotBeReadLeavesTheKeystoresUnchanged(t *testing.T) {
	for name, tc := range map[string]struct {
		lose func(w *world, password *corev1.Secret)
		back func(w *world, password *corev1.Secret)
		want string
	}{
		"its Secret is deleted": {
			func(w *world, password *corev1.Secret) { w.remove(password) },
			func(w *world, _ *corev1.Secret) { w.create(aKeystorePassword("first password")) }, "True/SecretNotFound",
		},
		"it may no longer be used": {
			func(w *world, password *corev1.Secret) { w.edit(password, func() { password.Labels = nil }) },
			func(w *world, password *corev1.Secret) {
				w.edit(password, func() { password.Labels = map[string]string{v1alpha1.LabelAllow: "true"} })
			}, "True/SecretNotAllowed",
		},
		"it is emptied": {
			func(w *world, password *corev1.Secret) { w.edit(password, func() { password.Data["password"] = nil }) },
			func(w *world, password *corev1.Secret) {
				w.edit(password, func() { password.Data["password"] = []byte("first password") })
			}, "True/SecretInvalid",
		},
		"rekey may no longer read it": {
			func(w *world, password *corev1.Secret) {
				w.unread = func(key client.ObjectKey, _ client.Object) error {
					if key.Name != password.Name {
						return nil
					}
					return apierrors.NewForbidden(corev1.Resource("secrets"), key.Name,
						errors.New(`User "system:serviceaccount:rekey-system:rekey" cannot get resource "secrets" in API group "" in the namespace "`+key.Namespace+`"`))
				}
			},
			func(w *world, _ *corev1.Secret) { w.unread = nil }, "True/Forbidden",
		},
		"the API server does not answer": {
			func(w *world, password *corev1.Secret) {
				w.unread = func(key client.ObjectKey, _ client.Object) error {
					if key.Name != password.Name {
						return nil
					}
					return errors.New("the API server does not answer")
				}
			},
			func(w *world, _ *corev1.Secret) { w.unread = nil }, "", // Nothing depends on it yet.
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS), aKeystorePassword("first password")
			w.create(password)
			ready(w, anAuthority(), identity)
			before := w.secret("app-mtls")
			tc.lose(w, password)
			result := w.reconcile(identity)
			w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(identity, v1alpha1.ConditionReconciling, tc.want)
			if result.RequeueAfter > lifecycle.RecheckHealthy {
				t.Errorf("the password is read again after %s", result.RequeueAfter)
			}
			w.events()
			tc.back(w, password)
			w.step(lifecycle.RecheckHealthy)
			w.settle(identity, 3)
			w.wantCondition(identity, v1alpha1.ConditionReconciling, "")
			if events := w.events(); slices.ContainsFunc(events, func(text string) bool { return !strings.HasPrefix(text, "Normal Recovered") }) || len(events) != min(len(tc.want), 1) {
				t.Errorf("it reported %q", events)
			}
			if after := w.secret("app-mtls"); after.ResourceVersion != before.ResourceVersion {
				t.Error("the Secret was written")
			}
		})
	}
}

// What is no longer wanted leaves the Secret, and its record with it. The certificate stays.
func TestKeystoresThatAreNoLongerWantedAreRemoved(t *testing.T) {
	w := newWorld(t)
	identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS, v1alpha1.FormatDER), aKeystorePassword("first password")
	w.create(password)
	ready(w, anAuthority(), identity)
	before := w.secret("app-mtls")
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.IdentitySpec)
		want   string
	}{
		{"one format less", func(spec *v1alpha1.IdentitySpec) {
			spec.Formats = []v1alpha1.Format{v1alpha1.FormatPKCS12, v1alpha1.FormatDER}
		}, "ca.crt key.der keystore.p12 tls.crt tls.der tls.key truststore.p12"},
		{"no keystores", func(spec *v1alpha1.IdentitySpec) {
			spec.Formats, spec.Keystore = []v1alpha1.Format{v1alpha1.FormatDER}, nil
		}, "ca.crt key.der tls.crt tls.der tls.key"},
		{"no format", func(spec *v1alpha1.IdentitySpec) { spec.Formats = nil }, "ca.crt tls.crt tls.key"},
	} {
		w.edit(identity, func() { tc.change(&identity.Spec.IdentitySpec) })
		w.settle(identity, 3)
		w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
		if writes := slices.DeleteFunc(w.written(), func(x write) bool { return x.kind != "Secret" }); len(writes) != 1 {
			t.Errorf("%s: it took the writes %v, want one of the Secret", tc.name, writes)
		}
		after := w.secret("app-mtls")
		if got := strings.Join(slices.Sorted(maps.Keys(after.Data)), " "); got != tc.want {
			t.Errorf("%s: the Secret has %s, want %s", tc.name, got, tc.want)
		}
		if !bytes.Equal(after.Data["tls.crt"], before.Data["tls.crt"]) {
			t.Errorf("%s: a new certificate was issued", tc.name)
		}
	}
	if _, recorded := w.secret("app-mtls").Annotations[v1alpha1.AnnotationKeystores]; recorded {
		t.Error("the Secret still records keystores")
	}
	w.remove(password)
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "")
}

// An authority with certificates of 150 KiB: all formats together are more than a Secret may have.
func TestKeystoresThatDoNotFitIntoTheSecretAreReported(t *testing.T) {
	large := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 25, 1}, Value: bytes.Repeat([]byte{5, 0}, 75<<10)}}
	}
	root := providePair(t, "Root", nil, large)
	middle := providePair(t, "Issuing CA", &root, large)
	w := newWorld(t)
	secret, authority := createProvidedAuthority(t, middle, middle.pem(), root.pem())
	identity := anIdentityWithKeystores(v1alpha1.FormatCombinedPEM, v1alpha1.FormatPKCS12, v1alpha1.FormatJKS)
	w.create(aKeystorePassword("first password"), secret, authority, identity)
	w.settle(authority, 3)
	w.events()
	w.settle(identity, 5)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(identity, v1alpha1.ConditionStalled, "True/KeystoreNotWritten")
	w.wantMessage(identity, v1alpha1.ConditionStalled, "app-mtls are not written: the Secret would be ")
	w.wantMessage(identity, v1alpha1.ConditionStalled, " bytes long, and Kubernetes stores at most 1048576: remove a format from spec.formats, or shorten the trust anchors of the authority")
	w.wantMessage(identity, v1alpha1.ConditionReady, "Its keystores, if there are any, were not written by rekey")
	if events := w.events(); len(events) != 2 || !with(events, "Normal Issued") || !with(events, "Warning KeystoreNotWritten") {
		t.Errorf("it reported %q", events)
	}
	first := w.secret("app-mtls")
	if _, recorded := first.Annotations[v1alpha1.AnnotationKeystores]; recorded || len(first.Data) != 4 {
		t.Errorf("the Secret has %d values, keystores recorded: %t", len(first.Data), recorded)
	}
	w.written()
	w.reconcile(identity)
	if writes := w.written(); len(writes) > 0 {
		t.Errorf("the next reconcile wrote %v", writes)
	}

	w.edit(identity, func() {
		identity.Spec.Formats = []v1alpha1.Format{v1alpha1.FormatPKCS12}
	})
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionStalled, "")
	if events := w.events(); len(events) != 1 || !with(events, "Normal KeystoreWritten", "keystore.p12, truststore.p12 of Secret app-mtls") {
		t.Errorf("it reported %q", events)
	}
	fitting := w.secret("app-mtls")
	if got := serialIn(t, fitting, "first password"); !strings.HasSuffix(identity.Status.SerialNumber, got) || !bytes.Equal(fitting.Data["tls.crt"], first.Data["tls.crt"]) {
		t.Error("keystore.p12 has another certificate")
	}

	// The keystores that fit stay beside what does not, through a renewal as well.
	w.edit(identity, func() {
		identity.Spec.Formats = []v1alpha1.Format{v1alpha1.FormatCombinedPEM, v1alpha1.FormatPKCS12, v1alpha1.FormatJKS}
	})
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionStalled, "True/KeystoreNotWritten")
	w.step(17 * time.Hour)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	w.wantMessage(identity, v1alpha1.ConditionReady, "Its keystores still hold revision 1, which expires at ")
	if kept := w.secret("app-mtls"); identity.Status.Revision != 2 || !bytes.Equal(kept.Data["keystore.p12"], fitting.Data["keystore.p12"]) {
		t.Errorf("revision %d: the earlier keystore is lost, or the certificate was not renewed", identity.Status.Revision)
	}
}

// Nothing can be encoded from a ca.crt that others have damaged, and that only a missing authority could repair.
func TestKeystoresOfADamagedSecretAreKeptUntilItIsRepaired(t *testing.T) {
	w := newWorld(t)
	authority, identity := anAuthority(), anIdentityWithKeystores(v1alpha1.FormatPKCS12)
	w.create(aKeystorePassword("first password"))
	ready(w, authority, identity)
	before := w.secret("app-mtls")
	w.remove(authority)
	published := w.secret("app-mtls")
	w.edit(published, func() { published.Data["ca.crt"] = []byte("junk") })
	w.restart()
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "False/CertificateInvalid")
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "True/AuthorityNotFound")
	w.wantMessage(identity, v1alpha1.ConditionReconciling, "In addition, KeystoreNotWritten: ")
	w.wantMessage(identity, v1alpha1.ConditionReconciling, "ca.crt holds no PEM block")
	if kept := w.secret("app-mtls"); !bytes.Equal(kept.Data["keystore.p12"], before.Data["keystore.p12"]) {
		t.Error("the keystore that works was lost")
	}
}

// The cache has neither keystores nor keys: with it, they would be written again in every reconcile.
func TestKeystoresStayAsTheyAreBesideACache(t *testing.T) {
	m := startManaged(t, logr.Discard())
	identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS, v1alpha1.FormatDER), aKeystorePassword("first password")
	m.create(anAuthority(), password, identity)
	m.becomes(identity, v1alpha1.ConditionReady, "True/Published")
	before := m.secret("app-mtls")
	m.edit(identity, func() { identity.Spec.Suspend = true })
	m.follows(identity, v1alpha1.ConditionSuspended, "True/Suspended")
	if now := m.secret("app-mtls"); now.ResourceVersion != before.ResourceVersion {
		t.Error("the Secret was written again")
	}
	m.edit(password, func() { password.Data["password"] = []byte("second password") })
	m.edit(identity, func() { identity.Spec.Suspend = false })
	m.until(func() bool {
		return !bytes.Equal(m.secret("app-mtls").Data["keystore.p12"], before.Data["keystore.p12"])
	},
		func() string { return "the keystores were not written with the new password" })
	if now := m.secret("app-mtls"); !strings.HasSuffix(identity.Status.SerialNumber, serialIn(t, now, "second password")) {
		t.Error("the new keystores have another certificate")
	}
	// What others damage is noticed at once, and repaired.
	damaged := m.secret("app-mtls")
	m.edit(damaged, func() { damaged.Data["truststore.jks"], damaged.Data["key.der"] = []byte("x"), []byte("x") })
	m.until(func() bool {
		now := m.secret("app-mtls")
		return len(now.Data["truststore.jks"]) > 100 && bytes.Equal(now.Data["key.der"], before.Data["key.der"])
	}, func() string { return "the damaged files were not repaired" })
}
