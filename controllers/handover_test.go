// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/secretstore"
)

// aForeignSecret is another owner's certificate, beside files that rekey does not write.
func aForeignSecret(w *world, name string) *corev1.Secret {
	w.t.Helper()
	elsewhere := newWorld(w.t)
	ready(elsewhere, anAuthority(), aClientIdentity())
	data := elsewhere.secret("app-mtls").Data
	data["keystore.jks"], data["htpasswd"] = []byte("jks"), []byte("user:hash")
	return &corev1.Secret{Type: corev1.SecretTypeTLS, Data: data, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// What a handover removes is reported before and after it; another owner's certificate is never reported as issued by rekey.
// This holds before and after the object is created, with and without an issue in the same reconcile.
func TestAHandoverReportsWhatItRemoves(t *testing.T) {
	adopt := func(w *world, secret *corev1.Secret) {
		w.edit(secret, func() {
			if secret.Annotations == nil {
				secret.Annotations = map[string]string{}
			}
			secret.Annotations[v1alpha1.AnnotationAdopt] = "ClientIdentity/app"
		})
	}
	for name, early := range map[string]bool{"handed over before the identity is created": true, "handed over after a conflict": false} {
		for label, helm := range map[string]bool{"of a user": false, "of a Helm release": true} {
			t.Run(name+", "+label, func(t *testing.T) {
				w := newWorld(t)
				ready(w, anAuthority())
				secret, identity := aForeignSecret(w, "app-mtls"), aClientIdentity()
				if helm {
					secret.Labels = map[string]string{v1alpha1.LabelManagedBy: "Helm"}
					secret.Annotations = map[string]string{"meta.helm.sh/release-name": "shop"}
				}
				w.put(secret)
				serial := leafOfSecret(t, secret).SerialNumber
				if early {
					adopt(w, secret)
				}
				w.create(identity)
				w.settle(identity, 5)
				if !early {
					w.wantCondition(identity, v1alpha1.ConditionReady, "False/SecretConflict")
					message := meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReady).Message
					if !strings.Contains(message, "htpasswd, keystore.jks") || helm != strings.Contains(message, "Helm release shop") {
						t.Errorf("no message says before the handover what will be removed: %s", message)
					}
					adopt(w, secret)
					w.step(time.Minute)
					w.settle(identity, 5)
				}
				w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
				reported := w.events()
				if !with(reported, "Adopted", "htpasswd, keystore.jks") || helm != with(reported, "Adopted", "Helm release shop") {
					t.Errorf("the adoption was reported as %q", reported)
				}
				if leafOfSecret(t, w.secret("app-mtls")).SerialNumber.Cmp(serial) == 0 || identity.Status.Revision != 1 {
					t.Errorf("revision %d; is it the certificate that existed?", identity.Status.Revision)
				}
				issued := 0
				for _, line := range reported {
					if strings.Contains(line, " Issued ") {
						issued++
					}
				}
				if issued != 1 || !with(reported, "Issued", "Revision 1 ", identity.Status.SerialNumber) {
					t.Errorf("reported %q", reported)
				}
			})
		}
	}
}

// A cached read that fails for any reason except a missing object says nothing about the object: what is known about failures
// and proofs is kept, for every kind.
func TestAFailedReadForgetsNothing(t *testing.T) {
	d := newWorld(t)
	identity, object := aClientIdentity(), aCredential()
	ready(d, anAuthority(), identity, aPolicy(), anAdminSecret(), aServer(), object)
	answer := errors.New("the cache does not exist yet")
	d.shared.client = interceptor.NewClient(d.client, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return answer
		},
	})
	for _, o := range []client.Object{identity, object} {
		if !d.remembers(o) {
			t.Fatalf("nothing is known about %T", o)
		}
		_, err := d.reconcilerOf(o).Reconcile(d.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		if err == nil || !d.remembers(o) {
			t.Errorf("%T: error %v, still known: %t", o, err, d.remembers(o))
		}
	}
	answer = apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group}, "x")
	for _, o := range []client.Object{identity, object} {
		_, err := d.reconcilerOf(o).Reconcile(d.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		if err != nil || d.remembers(o) {
			t.Errorf("%T: error %v, still known although it is gone: %t", o, err, d.remembers(o))
		}
	}
}

func (w *world) remembers(o client.Object) bool {
	return remembered(w.shared.driver.Attempts, string(o.GetUID()))
}

// remembered reports whether anything is known about an object: only then do its waits grow.
func remembered(memory *lifecycle.Attempts, uid string) bool {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	memory.Pace(uid, "Asked", begun)
	return memory.Pace(uid, "Asked", begun.Add(time.Hour)) > lifecycle.RecheckBroken
}

// A handover passes the same checks as a new credential before it changes a marker.
func TestAHandoverPassesTheChecksOfANewCredential(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	for name, copied := range map[string]bool{"the object alone": false, "with its Secrets": true} {
		t.Run(name, func(t *testing.T) {
			other := w.elsewhere(t)
			w.copySecrets(other, func(*corev1.Secret) bool { return copied })
			heir := aCredential()
			heir.Annotations = map[string]string{v1alpha1.AnnotationTakeOverFrom: w.former()}
			server := aServer()
			server.Spec.PostgreSQL.AllowedOwners = []v1alpha1.RolePattern{"other_owner"}
			other.create(aPolicy(), anAdminSecret(), server, heir)
			logins := w.logins()
			other.settle(heir, 5)
			other.stalledBy(heir, "OwnerForbidden")
			if diff := cmp.Diff(logins, w.logins()); diff != "" {
				t.Errorf("a credential that the server does not allow adopted: %s", diff)
			}
		})
	}
}

// The annotation is a request, and is honored once: after a failover and a failback both clusters have one, naming the
// other. The one that was annotated last has the logins; nothing moves after that, whichever process reconciles, restarts, or
// loses its ledger.
func TestAHandoverIsHonoredOnce(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	other := w.elsewhere(t)
	w.copySecrets(other, func(*corev1.Secret) bool { return true })
	published := w.secret("orders-db").Data
	w.cut, other.cut = true, true // Each has records of the other.
	heir := other.claim(w)
	other.settle(heir, 5)
	other.wantCondition(heir, v1alpha1.ConditionReady, "True/Published")
	other.wantOwner(w.logins())
	if diff := cmp.Diff(published, other.secret("orders-db").Data); diff != "" {
		t.Errorf("what was published changed")
	}
	w.request(object, v1alpha1.AnnotationRotate, "no longer")
	w.settle(object, 5)
	if message := w.stalledBy(object, "Fenced"); strings.Contains(message, "honored") {
		t.Errorf("no request was made to the former owner: %s", message)
	}

	w.request(object, v1alpha1.AnnotationTakeOverFrom, other.former())
	for range 3 {
		w.settle(object, 8)
		w.step(2 * time.Hour)
	}
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionStalled, "")
	w.wantOwner(w.logins())
	other.request(heir, v1alpha1.AnnotationRotate, "no longer")
	other.settle(heir, 8)
	if err := other.client.Delete(other.ctx, other.secret(ledgersOf(other.data())[0])); err != nil {
		t.Fatal(err)
	}
	logins, mine := w.logins(), w.data()
	for round := range 24 {
		if round%5 == 0 {
			w.restart()
			other.restart()
		}
		w.settle(object, 5)
		other.settle(heir, 5)
		w.step(30 * time.Minute)
	}
	if diff := cmp.Diff(logins, w.logins()); diff != "" {
		t.Errorf("the logins moved: %s", diff)
	}
	if diff := cmp.Diff(mine, w.data()); diff != "" {
		t.Error("Secrets of the one that has the logins changed")
	}
	at := other.takenOverAt(heir, w)

	// Removed and set again, it is another request, and the other one stays fenced.
	other.request(heir, v1alpha1.AnnotationRotate, "once more")
	other.settle(heir, 5)
	if message := other.stalledBy(heir, "Fenced"); !strings.Contains(message, "was honored at "+at) || !strings.Contains(message, "remove the annotation") {
		t.Errorf("no message says that the annotation was honored at %s: %s", at, message)
	}
	other.edit(heir, func() { delete(heir.Annotations, v1alpha1.AnnotationTakeOverFrom) })
	other.settle(heir, 5)
	if message := other.stalledBy(heir, "Fenced"); strings.Contains(message, "honored") {
		t.Errorf("the annotation was removed: %s", message)
	}
	other.request(heir, v1alpha1.AnnotationTakeOverFrom, w.former())
	for range 3 {
		other.settle(heir, 8)
		w.settle(object, 5)
		other.step(2 * time.Hour)
	}
	other.wantOwner(w.logins())
	other.wantCondition(heir, v1alpha1.ConditionReady, "True/Published")
}

// takenOverAt returns when, according to the Secret, its credential was adopted; it fails the test unless the Secret names
// from.
func (w *world) takenOverAt(o *v1alpha1.DatabaseCredential, from *world) string {
	w.t.Helper()
	former, at, _ := strings.Cut(w.secret(string(o.Spec.SecretName)).Annotations[v1alpha1.AnnotationTakeOverHonored], " ")
	if former != from.former() || at == "" {
		w.t.Errorf("the Secret says that its credential was adopted from %q at %q", former, at)
	}
	return at
}

// Before a marker changes, the ledger records the former owner, and still names it if it is a copy. A process with an older
// ledger changes nothing; nor does one with an older annotation.
func TestAHandoverIsRecordedBeforeAMarkerChanges(t *testing.T) {
	for name, copied := range map[string]func(*corev1.Secret) bool{
		"the object alone": func(*corev1.Secret) bool { return false }, "everything": func(*corev1.Secret) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ready(w, aPolicy(), anAdminSecret(), aServer(), aCredential())
			other := w.elsewhere(t)
			w.copySecrets(other, copied)
			heir := other.claim(w)
			logins, looked := w.logins(), false
			other.database.Before("TakeOver", func() {
				looked = true
				ledger := other.secret(secretstore.LedgerName(kindDatabaseCredential, heir.Name))
				if content, err := secretstore.DecodeLedger(ledger.Data); err != nil || content.TakeOver.Seen != w.former() || content.TakeOver.Honored != "" {
					t.Errorf("the ledger says %+v (%v)", content.TakeOver, err)
				}
				if owner := ledger.Annotations[v1alpha1.AnnotationOwnerNamespace]; name == "everything" && owner != w.namespace {
					t.Errorf("the ledger names namespace %s before anything was adopted", owner)
				}
				if diff := cmp.Diff(logins, w.logins()); diff != "" {
					t.Error("a marker changed before that was recorded")
				}
			})
			// Another process writes the ledger after this one has read it, and before it contacts the server.
			other.database.Before("Preflight", func() {
				other.database.Before("Preflight", func() {
					ledger := other.secret(secretstore.LedgerName(kindDatabaseCredential, heir.Name))
					other.edit(ledger, func() { ledger.Labels["example.org/touched"] = "true" })
				})
			})
			other.reconcile(heir)
			if looked || !cmp.Equal(logins, w.logins()) {
				t.Error("a process that was overtaken changed markers")
			}
			other.settle(heir, 5)
			if !looked {
				t.Error("nothing was adopted")
			}
			other.wantOwner(w.logins())
		})
	}
}

// A cache that still has the annotation, or does not have it yet, is not obeyed: nothing is adopted that is no longer
// requested, and an adoption is not forgotten.
func TestAnOldCacheHandsNothingOver(t *testing.T) {
	w := newWorld(t)
	ready(w, aPolicy(), anAdminSecret(), aServer(), aCredential())
	other := w.elsewhere(t)
	w.copySecrets(other, func(*corev1.Secret) bool { return true })
	heir := other.claim(w)
	other.edit(heir, func() { heir.Finalizers = []string{v1alpha1.Finalizer} }) // An old copy cannot add it, and would get no further.
	asked := heir.DeepCopy()
	other.edit(heir, func() { delete(heir.Annotations, v1alpha1.AnnotationTakeOverFrom) })
	unasked := heir.DeepCopy()
	logins := w.logins()
	other.shows(asked)
	for range 3 {
		_, _ = other.reconcilerOf(heir).Reconcile(other.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(heir)})
	}
	if diff := cmp.Diff(logins, w.logins()); diff != "" {
		t.Errorf("an annotation that was removed caused an adoption: %s", diff)
	}
	other.shows(nil)
	other.request(heir, v1alpha1.AnnotationTakeOverFrom, w.former())
	other.step(time.Minute)
	other.settle(heir, 5)
	other.wantOwner(w.logins())
	ledger := secretstore.LedgerName(kindDatabaseCredential, heir.Name)
	before := other.secret(ledger).Data
	unasked.Annotations = nil
	other.shows(unasked)
	for range 3 {
		_, _ = other.reconcilerOf(heir).Reconcile(other.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(heir)})
	}
	if diff := cmp.Diff(before, other.secret(ledger).Data); diff != "" {
		t.Error("an old cache made rekey forget an adoption")
	}
}
