// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package factcheck

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// The checker is only worth what it finds: each of these is false, or a sentence that no user should have to read.

func TestMalformedMessagesAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"Login a stays accepted until 0001-01-01T00:00:00Z.":                     "zero time",
		" expires at 2031-11-28T10:54:51Z.":                                      "starts with",
		"It expires. Cause: no reason is known; look at the log of the operator": "unknown",
		"The login  is published.":                                               "double space",
		"reading Secret web/x: ":                                                 "ends with",
		"reading Secret web/x:":                                                  "ends with",
		"":                                                                       "empty",
		"The Secret is missing.. It is written again.":                           "punctuation",
		"logging in as \"\" to database \"orders\"":                              "empty subject",
		"Login is now refused.":                                                  "empty subject",
		"The login in Secret /orders expires at 2031-11-28T10:54:51Z.":           "empty subject",
		"The certificate of CertificateAuthority web/internal () expires at 2031-11-28T10:54:51Z.": "empty subject",
		"it failed: %!s(<nil>)":   "broken format verb",
		"first line\nsecond line": "line break",
		"The certificate was due to be replaced at an unknown time. Nothing renews it automatically: x.": "zero time",
	} {
		if err := Message(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: found %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		"Revision 2 with login orders_app_b is published in Secret orders-db. Login orders_app_a stays accepted until 2026-11-30T12:31:17Z.",
		`logging in to orders-db.data:5432 as "orders_app_a" to database "orders": no answer in time: check address, network policies and firewalls`,
		"3 sessions of the previous login orders_app_a are open (report, web). They stay open after the login is refused; restart the clients that hold them.",
		"updating Secret web/app-mtls: refused by ResourceQuota \"team-quota\" (secrets \"app-mtls\" is forbidden: exceeded quota: team-quota): raise the quota",
	} {
		if err := Message(text); err != nil {
			t.Errorf("a good message is refused: %v", err)
		}
	}
}

// withKeystores records that the Secret has keystores of revision 1.
func withKeystores(of metav1.ObjectMeta) metav1.ObjectMeta {
	of.Annotations = map[string]string{v1alpha1.AnnotationKeystores: "1 2026-11-30T12:31:17Z seal"}
	return of
}

func aWorld(t *testing.T) (*Checker, map[string]bool) {
	t.Helper()
	chain, key, err := ca.NewSelfSigned(ca.Root{CommonName: "x", KeyAlgorithm: issuer.ECDSAP256, Lifetime: time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record := func(seq int64, slot string) *secretstore.Record {
		return &secretstore.Record{Version: rotation.Version{Seq: seq, Slot: slot, Stage: rotation.Current},
			Material: credential.Material{credential.KeyPassword: credential.NewSensitive([]byte("password " + slot))}}
	}
	ledger, err := secretstore.EncodeLedger(secretstore.Ledger{Current: record(2, "b"), Previous: record(1, "a"), LastSeq: 2})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "web", Name: name} }
	published := &corev1.Secret{ObjectMeta: at("db"), Data: map[string][]byte{"username": []byte("app_b"), "password": []byte("password b")}}
	published.Annotations = map[string]string{v1alpha1.AnnotationRevision: "2", v1alpha1.AnnotationOwner: "DatabaseCredential/orders"}
	open := map[string]bool{"app_a": true, "app_b": true}
	return &Checker{
		Reader: fake.NewClientBuilder().WithObjects(published,
			&corev1.Secret{ObjectMeta: at(secretstore.LedgerName("DatabaseCredential", "orders")), Data: ledger},
			&corev1.Secret{ObjectMeta: withKeystores(at("tls")), Data: map[string][]byte{"tls.crt": chain, "tls.key": key.Reveal(), "keystore.p12": []byte("encrypted")}},
		).Build(),
		Open: func(login string) (bool, bool) { is, known := open[login]; return is, known },
	}, open
}

func TestAFalseStatusIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(o *v1alpha1.DatabaseCredential, open map[string]bool)
		want   string
	}{
		"the truth":                                {func(*v1alpha1.DatabaseCredential, map[string]bool) {}, ""},
		"a login that the Secret does not hold":    {func(o *v1alpha1.DatabaseCredential, _ map[string]bool) { o.Status.ActiveUsername = "app_a" }, "activeUsername"},
		"a revision that the Secret does not hold": {func(o *v1alpha1.DatabaseCredential, _ map[string]bool) { o.Status.Revision = 1 }, "status.revision is 1"},
		"a Secret that does not exist":             {func(o *v1alpha1.DatabaseCredential, _ map[string]bool) { o.Spec.SecretName = "other" }, "there is no Secret"},
		"a previous login that is closed":          {func(_ *v1alpha1.DatabaseCredential, open map[string]bool) { open["app_a"] = false }, "is refused"},
		"an empty message":                         {func(o *v1alpha1.DatabaseCredential, _ map[string]bool) { o.Status.Conditions[0].Message = "" }, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			c, open := aWorld(t)
			o := &v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "orders"}}
			o.Spec.SecretName = "db"
			o.Status = v1alpha1.DatabaseCredentialStatus{Revision: 2, ActiveUsername: "app_b", Binding: &v1alpha1.Binding{Name: "db"},
				Previous:   &v1alpha1.PreviousLogin{Username: "app_a"},
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Published", Message: "It is published."}}}
			tc.change(o, open)
			found(t, c.Status(context.Background(), o), tc.want)
		})
	}
	c, _ := aWorld(t)
	identity := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "app"}}
	identity.Spec.SecretName, identity.Status.SerialNumber = "tls", "1234"
	found(t, c.Status(context.Background(), identity), "status.serialNumber")
	identity.Spec.SecretName = "none"
	found(t, c.Status(context.Background(), identity), "holds no certificate")
}

func TestAFalseEventIsFound(t *testing.T) {
	login := &v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "orders"}}
	other := &v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "other"}}
	for name, tc := range map[string]struct {
		of           client.Object
		reason, note string
		want         string
	}{
		"published, and it is":               {login, "Rotated", "Revision 2 with login app_b is published in Secret db. Login app_a stays accepted until 2026-11-30T12:31:17Z.", ""},
		"published, and it is not":           {login, "Rotated", "Revision 3 with login app_a is published in Secret db.", "holds revision 2"},
		"published where there is no Secret": {login, "Rotated", "Revision 2 with login app_b is published in Secret none.", "does not exist"},
		"published, in other words":          {login, "Rotated", "It is published.", "does not name"},
		"refused, and it is not":             {login, "Retired", "Login app_a is now refused.", "it is accepted"},
		"refused, in other words":            {login, "Retired", "The old one is now refused.", "does not name"},
		"issued, and it is not":              {login, "Issued", "Revision 1 is published in Secret tls: serial number 1234, valid until 2026-11-30T12:31:17Z.", "it does not"},
		"encoded, and it is not":             {login, "KeystoreWritten", "Revision 3 is now encoded in keystore.p12 of Secret tls, with the password in key password of Secret pw.", "hold revision 3, and they do not"},
		"encoded, without the file":          {login, "KeystoreWritten", "Revision 1 is now encoded in truststore.p12 of Secret tls, with the password in key password of Secret pw.", "names truststore.p12"},
		"encoded, and it is":                 {login, "KeystoreWritten", "Revision 1 is now encoded in keystore.p12 of Secret tls, with the password in key password of Secret pw.", ""},
		"encoded, in other words":            {login, "KeystoreWritten", "It is written.", "does not name"},
		"adopted, and it was":                {login, "Adopted", "Secret web/db, which was not created by rekey, was adopted.", ""},
		"adopted by another object":          {other, "Adopted", "Secret web/db, which was not created by rekey, was adopted.", "does not belong"},
		"cleaned up while it lives":          {login, "CleanupIncomplete", "DatabaseCredential web/orders is deleted and leaves behind a login.", "not deleted"},
		"a zero time":                        {login, "Recovered", "It is due at 0001-01-01T00:00:00Z.", "zero time"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := aWorld(t)
			found(t, c.Event(context.Background(), tc.of, tc.reason, tc.note), tc.want)
			if len(c.Claims()) == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

func found(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("found %v, want %q", err, want)
	}
}
