// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// A restored key pair is compared by its content, not by its encoding.
func TestARestoredAuthorityIsComparedByItsCertificate(t *testing.T) {
	text := func(before string) func([]byte) []byte {
		return func(b []byte) []byte { return append([]byte(before), b...) }
	}
	for name, written := range map[string]func([]byte) []byte{
		"unchanged":                   bytes.Clone,
		"without the last line break": func(b []byte) []byte { return bytes.TrimRight(b, "\n") },
		"with CRLF":                   func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) },
		"with text in front":          text("subject=CN = Test CA\n"),
		"with empty lines":            func(b []byte) []byte { return append(append([]byte("\n\n"), b...), "\n\n"...) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			authority, identity := anAuthority(), aClientIdentity()
			ready(w, authority, identity)
			secret := w.secret("internal-ca")
			w.edit(secret, func() {
				for key, value := range secret.Data {
					secret.Data[key] = written(value)
				}
			})
			w.step(time.Minute)
			w.settle(authority, 3)
			w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
			w.request(identity, v1alpha1.AnnotationRotate, "1")
			w.settle(identity, 5)
			w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
			shown := w.secret("app-mtls")
			pool, block := x509.NewCertPool(), leafOfSecret(t, shown)
			if identity.Status.Revision != 2 || !pool.AppendCertsFromPEM(shown.Data["ca.crt"]) {
				t.Errorf("revision %d, and ca.crt holds %q", identity.Status.Revision, shown.Data["ca.crt"])
			}
			if _, err := block.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: w.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func leafOfSecret(t *testing.T, secret *corev1.Secret) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(secret.Data["tls.crt"])
	if block == nil {
		t.Fatal("tls.crt holds no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// A Secret that `kubectl create secret tls` creates from a backup has no metadata from rekey: the message explains how to hand it
// over, and it is used if it holds the recorded certificate and its key. The message contains one hash, the one in the status.
func TestAnAuthorityIsRestoredManually(t *testing.T) {
	otherWorld := newWorld(t)
	ready(otherWorld, anAuthority())
	other := otherWorld.secret("internal-ca")
	for name, tc := range map[string]struct {
		change func(*corev1.Secret)
		adopt  bool
		want   string
		says   string
	}{
		"by the runbook":           {adopt: true, want: "True/Serving"},
		"not handed over yet":      {want: "False/SecretConflict", says: "rekey.dev/adopt=CertificateAuthority/internal"},
		"with another certificate": {adopt: true, change: func(s *corev1.Secret) { s.Data = other.Data }, want: "False/AuthorityLost", says: "restore the Secret from a backup"},
		"with another key":         {adopt: true, change: func(s *corev1.Secret) { s.Data["tls.key"] = other.Data["tls.key"] }, want: "False/AuthorityLost", says: "tls.key"},
		"handed over to another owner": {change: func(s *corev1.Secret) {
			s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "CertificateAuthority/x"}
		}, want: "False/SecretConflict", says: "rekey.dev/adopt=CertificateAuthority/internal"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			authority := anAuthority()
			ready(w, authority)
			hash, backup := authority.Status.SHA256, w.secret("internal-ca")
			restored := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "internal-ca"}, Type: corev1.SecretTypeTLS,
				Data: map[string][]byte{"tls.crt": backup.Data["tls.crt"], "tls.key": backup.Data["tls.key"]}}
			if tc.adopt {
				restored.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "CertificateAuthority/internal"}
			}
			if tc.change != nil {
				tc.change(restored)
			}
			w.put(restored)
			w.restart()
			w.step(time.Minute)
			w.settle(authority, 3)
			w.wantCondition(authority, v1alpha1.ConditionReady, tc.want)
			message := meta.FindStatusCondition(authority.Status.Conditions, v1alpha1.ConditionReady).Message
			if tc.says != "" && (!strings.Contains(message, tc.says) || !strings.Contains(message, hash)) {
				t.Errorf("the message lacks %q or the hash of the status, %s: %s", tc.says, hash, message)
			}
		})
	}
}

// An authority that is recreated under its name keeps the retained key: if its spec differs from the key pair, the message
// describes the difference.
func TestAnAuthorityWithAnEarlierKeyReportsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.ManagedAuthority)
		says   string
	}{
		"the same":         {change: func(*v1alpha1.ManagedAuthority) {}},
		"another name":     {change: func(m *v1alpha1.ManagedAuthority) { m.CommonName = "Another CA" }, says: `its commonName is "Test CA", but spec.managed says "Another CA"`},
		"another key":      {change: func(m *v1alpha1.ManagedAuthority) { m.KeyAlgorithm = "RSA-2048" }, says: `its keyAlgorithm is "ECDSA-P256", but spec.managed says "RSA-2048"`},
		"another lifetime": {change: func(m *v1alpha1.ManagedAuthority) { m.Lifetime = duration(87600 * time.Hour) }, says: `but spec.managed says "87600h0m0s"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			authority := anAuthority()
			ready(w, authority)
			if err := w.client.Delete(w.ctx, authority); err != nil {
				t.Fatal(err)
			}
			w.reconcile(authority)
			again := anAuthority()
			tc.change(again.Spec.Managed)
			ready(w, again)
			w.wantCondition(again, v1alpha1.ConditionReady, "True/Serving")
			message := meta.FindStatusCondition(again.Status.Conditions, v1alpha1.ConditionReady).Message
			if said := strings.Contains(message, "earlier authority of this name"); said != (tc.says != "") || !strings.Contains(message, tc.says) {
				t.Errorf("the message is: %s", message)
			}
		})
	}
}
