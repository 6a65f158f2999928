// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
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
	last := w.secret("app-mtls")
	if !bytes.Equal(last.Data["tls.crt"], renewed.Data["tls.crt"]) {
		t.Error("the password alone caused a new certificate")
	}
	if got := serialIn(t, last, "second password"); !strings.HasSuffix(identity.Status.SerialNumber, got) {
		t.Error("the keystores are not those of the current certificate")
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
