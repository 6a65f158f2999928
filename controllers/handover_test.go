// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

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
				told := w.events()
				if !with(told, "Adopted", "htpasswd, keystore.jks") || helm != with(told, "Adopted", "Helm release shop") {
					t.Errorf("the adoption was reported as %q", told)
				}
				if leafOfSecret(t, w.secret("app-mtls")).SerialNumber.Cmp(serial) == 0 || identity.Status.Revision != 1 {
					t.Errorf("revision %d; is it the certificate that existed?", identity.Status.Revision)
				}
				issued := 0
				for _, line := range told {
					if strings.Contains(line, " Issued ") {
						issued++
					}
				}
				if issued != 1 || !with(told, "Issued", "Revision 1 ", identity.Status.SerialNumber) {
					t.Errorf("told %q", told)
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
