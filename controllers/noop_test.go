// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

// R29: a reconcile that finds nothing new writes nothing, however often it runs, whatever the object waits for, even right
// after a start.
func TestAReconcileThatFindsNothingNewWritesNothing(t *testing.T) {
	cases := map[string]func(w *world) []client.Object{
		"all is well": func(w *world) []client.Object {
			authority, identity, server, object := anAuthority(), aServerIdentity(), aServer(), aCredential()
			ready(w, authority, identity, aPolicy(), anAdminSecret(), server, object)
			return []client.Object{authority, identity, server, object}
		},
		"an overlap runs, and the previous login is in use": func(w *world) []client.Object {
			object := aCredential()
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			login, _ := w.database.Login("orders_app_a")
			login.Sessions = []string{"web"}
			w.database.Put("orders_app_a", login)
			w.step(24*time.Hour + time.Minute)
			w.settle(object, 5)
			return []client.Object{object}
		},
		"it is suspended": func(w *world) []client.Object {
			identity := aClientIdentity()
			ready(w, anAuthority(), identity)
			w.edit(identity, func() { identity.Spec.Suspend = true })
			w.reconcile(identity)
			return []client.Object{identity}
		},
		"it expires soon": func(w *world) []client.Object {
			identity := aClientIdentity()
			ready(w, anAuthority(), identity)
			w.edit(identity, func() { identity.Spec.Suspend = true })
			w.step(19 * time.Hour)
			w.reconcile(identity)
			w.wantCondition(identity, v1alpha1.ConditionExpiringSoon, "True/ExpiresSoon")
			return []client.Object{identity}
		},
		"it has keystores": func(w *world) []client.Object {
			identity := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS, v1alpha1.FormatDER)
			w.create(aKeystorePassword("first password"))
			ready(w, anAuthority(), identity)
			return []client.Object{identity}
		},
		"its keystores wait for their password": func(w *world) []client.Object {
			identity, password := anIdentityWithKeystores(v1alpha1.FormatPKCS12), aKeystorePassword("first password")
			w.create(password)
			ready(w, anAuthority(), identity)
			if err := w.client.Delete(w.ctx, password); err != nil {
				w.t.Fatal(err)
			}
			return []client.Object{identity}
		},
		"what it names does not exist": func(w *world) []client.Object {
			identity, object := aClientIdentity(), aCredential()
			w.create(identity, object)
			return []client.Object{identity, object}
		},
		"its Secret belongs to another owner": func(w *world) []client.Object {
			identity := aClientIdentity()
			ready(w, anAuthority())
			w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app-mtls"}, StringData: map[string]string{"precious": "yes"}}, identity)
			return []client.Object{identity}
		},
	}
	for name, arrange := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			objects := arrange(w)
			for _, o := range objects {
				w.settle(o, 3)
				w.reconcile(o)
			}
			w.written()
			w.events()
			for range 2 {
				for range 10 {
					w.step(time.Minute)
					for _, o := range objects {
						w.reconcile(o)
					}
				}
				w.restart()
			}
			if writes := w.written(); len(writes) > 0 {
				t.Errorf("it wrote %v", writes)
			}
			if events := w.events(); len(events) > 0 {
				t.Errorf("it reported %q", events)
			}
		})
	}
}

// R21: a client that reads the combined key of the Secret at any moment of many renewals gets a key and a certificate that
// belong together.
func TestTheCombinedFileNeverMixesTwoVersions(t *testing.T) {
	const renewals = 12
	w := newWorld(t)
	identity := aClientIdentity()
	identity.Spec.Formats = []v1alpha1.Format{v1alpha1.Format(pki.CombinedPEM)}
	ready(w, anAuthority(), identity)
	reader, err := w.client.Watch(w.ctx, &corev1.SecretList{}, client.InNamespace(w.namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Stop()
	serials := map[string]bool{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range reader.ResultChan() {
			secret, ok := event.Object.(*corev1.Secret)
			if !ok || secret.Name != "app-mtls" || event.Type == watch.Deleted {
				continue
			}
			combined := secret.Data[credential.KeyCombined]
			pair, err := tls.X509KeyPair(combined, combined)
			if err != nil {
				t.Errorf("revision %s: key and certificate in the combined file do not belong together", secret.Annotations[v1alpha1.AnnotationRevision])
				continue
			}
			if !bytes.Contains(combined, secret.Data["tls.crt"]) || !bytes.Contains(combined, secret.Data["tls.key"]) {
				t.Errorf("revision %s: the combined file has a version other than that of the others", secret.Annotations[v1alpha1.AnnotationRevision])
			}
			serials[pair.Leaf.SerialNumber.String()] = true
			if len(serials) == renewals+1 {
				return
			}
		}
	}()
	for range renewals {
		w.step(17 * time.Hour)
		w.settle(identity, 3)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("saw %d versions, want %d", len(serials), renewals+1)
	}
}
