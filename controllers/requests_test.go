// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/x509"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// Requests of every length that an annotation can have are carried out once for each value, and block nothing.
func TestRequestsOfAnyLength(t *testing.T) {
	for _, length := range []int{1, 1024, 1025, 100_000} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			w := newWorld(t)
			authority, identity, login := anAuthority(), aClientIdentity(), aCredential()
			ready(w, authority, identity, aPolicy(), anAdminSecret(), aServer(), login)
			for n, last := range []string{"1", "2"} {
				token := strings.Repeat("x", length-1) + last
				w.edit(identity, func() { identity.Annotations = map[string]string{v1alpha1.AnnotationRotate: token} })
				w.edit(login, func() {
					login.Annotations = map[string]string{v1alpha1.AnnotationRotate: token, v1alpha1.AnnotationRetirePrevious: token}
				})
				for range 3 {
					w.step(time.Minute)
					w.settle(identity, 9)
					w.settle(login, 9)
				}
				if want := int64(n) + 2; identity.Status.Revision != want || login.Status.Revision != want || login.Status.Previous != nil {
					t.Errorf("request %d: revisions %d and %d, want %d; previous %v\n%s\n%s", n+1, identity.Status.Revision, login.Status.Revision, want,
						login.Status.Previous, describeConditions(identity), describeConditions(login))
				}
			}
		})
	}
}

// An earlier release recorded the whole value of a request. It is still the same request.
func TestALongRequestIsPerformedOnlyOnce(t *testing.T) {
	w := newWorld(t)
	authority, identity, login := anAuthority(), aClientIdentity(), aCredential()
	ready(w, authority, identity, aPolicy(), anAdminSecret(), aServer(), login)
	token := strings.Repeat("x", 2000)
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, login.Name))
	content, err := secretstore.DecodeLedger(ledger.Data)
	if err != nil {
		t.Fatal(err)
	}
	content.Rotate = secretstore.Tokens{Seen: token, Honored: token}
	data, err := secretstore.EncodeLedger(content)
	if err != nil {
		t.Fatal(err)
	}
	w.edit(ledger, func() { maps.Copy(ledger.Data, data) })
	secret := w.secret("app-mtls")
	w.edit(secret, func() {
		secret.Annotations[v1alpha1.AnnotationRotateSeen], secret.Annotations[v1alpha1.AnnotationRotateHonored] = token, token
	})
	w.restart()
	for _, object := range []client.Object{identity, login} {
		w.request(object, v1alpha1.AnnotationRotate, token)
		for range 3 {
			w.step(time.Minute)
			w.settle(object, 9)
		}
	}
	if identity.Status.Revision != 1 || login.Status.Revision != 1 {
		t.Errorf("revisions %d and %d: a request was carried out again", identity.Status.Revision, login.Status.Revision)
	}
}

// A ledger is never used as a target Secret: neither the object's own, before anything is created, nor another object's. No
// message advises deleting one.
func TestALedgerIsNeverUsedAsTheTargetSecret(t *testing.T) {
	w := newWorld(t)
	login := aCredential()
	ready(w, anAuthority(), aPolicy(), anAdminSecret(), aServer(), login)
	ledger := secretstore.LedgerName(kindDatabaseCredential, login.Name)
	before := w.secret(ledger)

	own, other, identity := aCredential(), aCredential(), aClientIdentity()
	own.Name, own.Spec.Username = "own", "orders_own"
	own.Spec.SecretName = v1alpha1.ObjectName(secretstore.LedgerName(kindDatabaseCredential, own.Name))
	other.Name, other.Spec.Username, other.Spec.SecretName = "other", "orders_other", v1alpha1.ObjectName(ledger)
	identity.Spec.SecretName = v1alpha1.ObjectName(ledger)
	for _, object := range []client.Object{own, other, identity} {
		w.create(object)
		for range 4 {
			w.settle(object, 5)
			w.step(time.Minute)
		}
		w.wantCondition(object, v1alpha1.ConditionReady, "False/SecretConflict")
		if text := message(object, v1alpha1.ConditionReady); !strings.Contains(text, "choose another secretName in a new object") || strings.Contains(text, "kubectl") {
			t.Errorf("%s: %s", object.GetName(), text)
		}
	}
	for _, name := range []string{"orders_own_a", "orders_other_a"} {
		if _, ok := w.database.Login(name); ok {
			t.Errorf("login %s was created, and cannot be published", name)
		}
	}
	if now := w.secret(ledger); now.ResourceVersion != before.ResourceVersion {
		t.Error("the ledger of another object was written")
	}
}

// The Secret with an authority's key pair cannot be handed over to another object, not even manually, and no key pair is
// written to another object's Secret: no message advises deleting or renaming it.
func TestTheKeyPairOfAnAuthorityBelongsToNoOtherObject(t *testing.T) {
	w := newWorld(t)
	authority, identity := anAuthority(), aClientIdentity()
	ready(w, authority, identity)
	before := w.secret("internal-ca")
	taker, login, second, third := aServerIdentity(), aCredential(), anAuthority(), anAuthority()
	taker.Spec.SecretName, login.Spec.SecretName = "internal-ca", "internal-ca"
	second.Name, third.Name = "second", "third"
	fixture.SetAuthoritySecret(&third.Spec, "app-mtls")
	w.create(aPolicy(), anAdminSecret(), aServer())
	for _, object := range []client.Object{taker, login, second, third} {
		w.create(object)
		for range 3 {
			w.settle(object, 5)
			w.step(time.Minute)
		}
		w.wantCondition(object, v1alpha1.ConditionReady, "False/SecretConflict")
		if text := message(object, v1alpha1.ConditionReady); !strings.Contains(text, "another secretName") || strings.Contains(text, "kubectl") || strings.Contains(text, "delete it") {
			t.Errorf("%T %s: %s", object, object.GetName(), text)
		}
	}
	handed := w.secret("internal-ca")
	w.edit(handed, func() { handed.Annotations[v1alpha1.AnnotationAdopt] = "ServerIdentity/api" })
	w.step(time.Minute)
	w.settle(taker, 5)
	w.wantCondition(taker, v1alpha1.ConditionReady, "False/SecretConflict")
	if now := w.secret("internal-ca"); string(now.Data["tls.key"]) != string(before.Data["tls.key"]) {
		t.Error("the key of the authority was overwritten")
	}
}

// A certificate in an adopted Secret may have a serial number of any length: the status is written anyway.
func TestASerialNumberOfAnyLengthFitsTheStatus(t *testing.T) {
	for _, bits := range []uint{1, 20*8 - 1, maxSerial*4 - 1, maxSerial * 4, 100 * 8} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			w := newWorld(t)
			foreign := providePair(t, "Foreign", nil, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), bits) })
			identity, secret := aClientIdentity(), keyPairSecret(t, nil)
			identity.Spec.Suspend = true
			secret.Name, secret.Annotations = "app-mtls", map[string]string{v1alpha1.AnnotationAdopt: "ClientIdentity/app"}
			secret.Data = map[string][]byte{"tls.crt": foreign.pem(), "tls.key": foreign.keyPEM(t), "ca.crt": foreign.pem()}
			w.create(secret, anAuthority(), identity)
			w.settle(identity, 3)
			if (identity.Status.SerialNumber == "") != (bits >= maxSerial*4) || identity.Status.NotAfter == nil || len(identity.Status.Conditions) == 0 {
				t.Errorf("serial number %q, conditions %s", identity.Status.SerialNumber, describeConditions(identity))
			}
		})
	}
}

// A malformed selector passes the API server, and selects nothing: the authority reports that.
func TestAMalformedSelectorIsReported(t *testing.T) {
	for name, selector := range map[string]*metav1.LabelSelector{
		"a key with a blank":                {MatchLabels: map[string]string{"a key": "x"}},
		"a value with a blank":              {MatchLabels: map[string]string{"team": "a value"}},
		"a key of an expression":            {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a key", Operator: metav1.LabelSelectorOpExists}}},
		"a value of an expression":          {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpIn, Values: []string{"a value"}}}},
		"a value longer than 63 characters": {MatchLabels: map[string]string{"team": strings.Repeat("x", 64)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			authority := &v1alpha1.ClusterCertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}
			authority.Spec.AuthoritySpec, authority.Spec.NamespaceSelector = anAuthority().Spec, selector
			w.create(authority)
			w.settle(authority, 3)
			w.wantCondition(authority, v1alpha1.ConditionReady, "False/AuthorityInvalid")
			if text := message(authority, v1alpha1.ConditionReady); !strings.HasPrefix(text, "spec.namespaceSelector selects no namespace") {
				t.Error(text)
			}
			w.edit(authority, func() { authority.Spec.NamespaceSelector = &metav1.LabelSelector{} })
			w.step(time.Minute)
			w.settle(authority, 3)
			w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
		})
	}
}

// T4: a user's request is recorded even if its rotation fails, so the annotation may disappear.
func TestARequestIsRecordedEvenIfItsRotationFails(t *testing.T) {
	ask := func(o client.Object, value string) func() {
		return func() {
			annotations := map[string]string{}
			if value != "" {
				annotations[v1alpha1.AnnotationRotate] = value
			}
			o.SetAnnotations(annotations)
		}
	}
	identity, login := aClientIdentity(), aCredential()
	narrowed := func(w *world, names ...v1alpha1.NamePattern) {
		authority := anAuthority()
		authority.Namespace = w.namespace
		w.edit(authority, func() { authority.Spec.Constraints.CommonNames = names })
		w.settle(authority, 3)
	}
	for name, tc := range map[string]struct {
		object        client.Object
		fails, repair func(w *world)
	}{
		"constraints refuse the certificate": {identity, func(w *world) { narrowed(w, "nobody") }, func(w *world) { narrowed(w, "*") }},
		"the Secret may not be written": {login, func(w *world) {
			w.refuse(writesOf("update", "orders-db"))
			secret := w.secret("orders-db")
			w.fail = nil
			w.edit(secret, func() { secret.Data["uri"] = []byte("edited") })
			w.refuse(writesOf("update", "orders-db"))
		}, func(w *world) { w.fail = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), tc.object)
			tc.fails(w)
			refusal := w.fail
			w.fail = nil
			w.edit(tc.object, ask(tc.object, "leak-1"))
			w.fail = refusal
			w.reconcile(tc.object)
			w.fail = nil
			w.edit(tc.object, ask(tc.object, ""))
			w.fail = refusal
			w.step(time.Minute)
			w.reconcile(tc.object)
			tc.repair(w)
			w.step(time.Hour)
			w.settle(tc.object, 8)
			if got := revisionOf(tc.object); got != 2 {
				t.Errorf("revision %d: the request was forgotten%s", got, describeConditions(tc.object))
			}
		})
	}
}

// T4: a leak is answered with one command: the leaked login is refused as soon as its successor is published and proven. A
// request to end an overlap alone ends only that.
func TestOneCommandReplacesALeakedPassword(t *testing.T) {
	now := func(w *world, o *v1alpha1.DatabaseCredential, requests ...string) {
		w.edit(o, func() {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			for _, request := range requests {
				o.Annotations[request] = "leak-1"
			}
		})
		w.settle(o, 12)
		w.step(time.Minute)
		w.settle(o, 12)
	}
	open := func(w *world) (out string) {
		for _, name := range []string{"orders_app_a", "orders_app_b"} {
			if login, _ := w.database.Login(name); login.CanLogin {
				out += name[len(name)-1:]
			}
		}
		return out
	}
	both := []string{v1alpha1.AnnotationRotate, v1alpha1.AnnotationRetirePrevious}
	for name, tc := range map[string]struct {
		act      func(w *world, o *v1alpha1.DatabaseCredential)
		revision int64
		open     string
	}{
		"outside an overlap": {func(w *world, o *v1alpha1.DatabaseCredential) { now(w, o, both...) }, 2, "b"},
		"within an overlap": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
			now(w, o, both...)
		}, 3, "a"},
		"after the process died between the two": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.database.SetDown(true)
			now(w, o, both...)
			w.restart()
			w.database.SetDown(false)
			w.step(time.Hour)
			w.settle(o, 12)
		}, 2, "b"},
		"to end an overlap, while a rotation waits for its end": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
			now(w, o, v1alpha1.AnnotationRotate)
			now(w, o, v1alpha1.AnnotationRetirePrevious)
		}, 3, "ab"},
		"without a previous login or a rotation": {func(w *world, o *v1alpha1.DatabaseCredential) {
			now(w, o, v1alpha1.AnnotationRetirePrevious)
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
		}, 2, "ab"},
		"with the first version": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
		}, 2, "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			if name == "with the first version" {
				object.Annotations = map[string]string{both[0]: "leak-1", both[1]: "leak-1"}
			}
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			tc.act(w, object)
			if got := open(w); object.Status.Revision != tc.revision || got != tc.open {
				t.Errorf("revision %d with logins %q open, want %d and %q%s", object.Status.Revision, got, tc.revision, tc.open, describeConditions(object))
			}
		})
	}
}
