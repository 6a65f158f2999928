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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/test/fixture"
)

// former returns the annotation's value for the credential of objects_test.go in this world.
func (w *world) former() string {
	return strings.Join([]string{w.clusterUID(), w.namespace, "orders"}, "/")
}

// claim creates the credential in a world, and hands over to it what belongs to the one in another world.
func (w *world) claim(from *world) *v1alpha1.DatabaseCredential {
	w.t.Helper()
	object := aCredential()
	object.Annotations = map[string]string{v1alpha1.AnnotationTakeOverFrom: from.former()}
	w.create(aPolicy(), anAdminSecret(), aServer(), object)
	return object
}

// wantOwner fails the test unless every login carries the marker of the credential in this world.
func (w *world) wantOwner(logins map[string]databasetest.FakeLogin) {
	w.t.Helper()
	for name, login := range logins {
		if login.Owner != w.former() {
			w.t.Errorf("the marker of %s names %s, want %s", name, login.Owner, w.former())
		}
	}
	if len(logins) == 0 {
		w.t.Error("there are no logins")
	}
}

// stalledBy returns the message of an object that is stalled for a reason; it fails the test otherwise.
func (w *world) stalledBy(o client.Object, reason string) string {
	w.t.Helper()
	stalled := meta.FindStatusCondition(fixture.Conditions(o), v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Reason != reason {
		w.t.Errorf("it is not stalled by %s:%s", reason, describeConditions(o))
		return ""
	}
	return stalled.Message
}

// Two namespaces may use the same server. A user who may create an object in one of them cannot get the logins of an object
// that exists in the other, whatever was copied, at whatever stage, and whichever process reconciles; once that object is
// deleted, the user can.
func TestALiveOwnerLosesNothingToAnotherNamespace(t *testing.T) {
	for name, copied := range map[string]func(*corev1.Secret) bool{
		"the object alone": func(*corev1.Secret) bool { return false }, "the ledger": ledgers, "the user's Secret": usersSecrets,
		"everything": func(*corev1.Secret) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			w.request(object, v1alpha1.AnnotationRotate, "an overlap")
			w.settle(object, 5)
			other := w.beside(t)
			w.copySecrets(other, copied)
			other.cut = true // The copy is older than what is handed over in the end.
			thief := other.claim(w)
			before, logins := other.data(), w.logins()
			for range 4 {
				other.settle(thief, 5)
				other.step(time.Hour)
				other.restart()
			}
			message := other.stalledBy(thief, "Fenced")
			for _, word := range []string{"DatabaseCredential " + w.namespace + "/orders still exists", "delete it first", "remove the annotation " + v1alpha1.AnnotationTakeOverFrom} {
				if !strings.Contains(message, word) {
					t.Errorf("the message lacks %q: %s", word, message)
				}
			}
			if diff := cmp.Diff(logins, w.logins()); diff != "" {
				t.Errorf("the logins of a live object changed: %s", diff)
			}
			if len(ledgersOf(before)) > 0 && !cmp.Equal(before, other.data()) {
				t.Error("the copied Secrets changed")
			}
			w.settle(object, 5)
			w.request(object, v1alpha1.AnnotationRotate, "it continues")
			w.settle(object, 5)
			w.wantCondition(object, v1alpha1.ConditionStalled, "")
			w.wantOwner(w.logins())

			if err := w.client.Delete(w.ctx, object); err != nil {
				t.Fatal(err)
			}
			w.reconcile(object)
			for range 4 {
				other.step(2 * time.Hour)
				other.settle(thief, 8)
			}
			other.wantCondition(thief, v1alpha1.ConditionStalled, "")
			other.wantOwner(other.logins())
		})
	}
}

func ledgersOf(data map[string]map[string][]byte) (out []string) {
	for name := range data {
		if strings.Contains(name, "-databasecredential-") {
			out = append(out, name)
		}
	}
	return out
}

// If the former owner cannot be looked up, nothing is adopted, and the missing right is named.
func TestAFormerOwnerThatCannotBeReadKeepsItsLogins(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "databasecredentials"}, "orders",
		errors.New(`User "system:serviceaccount:rekey-system:rekey" cannot get resource "databasecredentials" in API group "rekey.dev" in the namespace "`+w.namespace+`"`))
	for name, answer := range map[string]error{"403": forbidden, "no answer": apierrors.NewTimeoutError("the API server is busy", 1)} {
		t.Run(name, func(t *testing.T) {
			other := w.beside(t)
			other.unread = func(key client.ObjectKey, _ client.Object) error {
				if key.Namespace == w.namespace {
					return answer
				}
				return nil
			}
			thief, logins := other.claim(w), w.logins()
			other.settle(thief, 5)
			if diff := cmp.Diff(logins, w.logins()); diff != "" {
				t.Errorf("the logins changed: %s", diff)
			}
			if text := describeConditions(thief); !strings.Contains(text, "reading DatabaseCredential "+w.namespace+"/orders") {
				t.Errorf("no message names what could not be read:%s", text)
			}
			if name == "403" {
				if text := describeConditions(thief); !strings.Contains(text, "get") || !strings.Contains(text, "databasecredentials") {
					t.Errorf("the missing right is not named:%s", text)
				}
			}
		})
	}
}

// wantKept fails the test unless the object reports that the one in another world still has what it was to adopt.
func (w *world) wantKept(o client.Object, owner *world, kind string) {
	w.t.Helper()
	if message := w.stalledBy(o, "SecretConflict"); !strings.Contains(message, kind+" "+owner.namespace+"/"+o.GetName()+" still exists") {
		w.t.Errorf("no message names the owner that still has the key: %s", message)
	}
}

// A private key is not adopted while the object that publishes it exists in this cluster.
func TestALivePrivateKeyIsNotAdopted(t *testing.T) {
	for kind, object := range map[string]func() client.Object{
		kindClientIdentity: func() client.Object { return aClientIdentity() },
		kindServerIdentity: func() client.Object { return aServerIdentity() },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			first := object()
			ready(w, anAuthority(), first)
			other := w.beside(t)
			authority := anAuthority()
			other.create(authority)
			other.settle(authority, 3)
			copied := object()
			w.copySecrets(other, func(s *corev1.Secret) bool {
				return s.Annotations[v1alpha1.AnnotationOwner] == kind+"/"+first.GetName()
			})
			copied.SetAnnotations(map[string]string{v1alpha1.AnnotationTakeOverFrom: w.clusterUID() + "/" + w.namespace})
			other.create(copied)
			before := other.data()
			other.settle(copied, 3)
			other.wantKept(copied, w, kind)
			if diff := cmp.Diff(before, other.data()); diff != "" {
				t.Error("Secrets of the copy changed")
			}
			if err := w.client.Delete(w.ctx, first); err != nil {
				t.Fatal(err)
			}
			other.step(time.Minute)
			other.settle(copied, 3)
			other.wantCondition(copied, v1alpha1.ConditionReady, "True/Published")
		})
	}
}

// Nothing is adopted, and nothing is written, while the object is suspended or being deleted, or something it refers to is
// missing; afterwards it is.
func TestNothingIsAdoptedThatHasToWait(t *testing.T) {
	type arrangement struct {
		before, after func(w *world, o *v1alpha1.DatabaseCredential)
		goes          bool
	}
	suspended := func(is bool) func(w *world, o *v1alpha1.DatabaseCredential) {
		return func(w *world, o *v1alpha1.DatabaseCredential) { w.edit(o, func() { o.Spec.Suspend = is }) }
	}
	for name, arrange := range map[string]arrangement{
		"suspended": {before: suspended(true), after: suspended(false)},
		"the policy is missing": {
			before: func(w *world, _ *v1alpha1.DatabaseCredential) {
				policy := aPolicy()
				policy.Namespace = w.namespace
				if err := w.client.Delete(w.ctx, policy); err != nil {
					w.t.Fatal(err)
				}
			},
			after: func(w *world, _ *v1alpha1.DatabaseCredential) { w.create(aPolicy()) },
		},
		"being deleted": {goes: true, before: func(w *world, o *v1alpha1.DatabaseCredential) {
			w.edit(o, func() { o.Finalizers = append(o.Finalizers, v1alpha1.Finalizer) })
			if err := w.client.Delete(w.ctx, o); err != nil {
				w.t.Fatal(err)
			}
		}},
	} {
		for label, copied := range map[string]func(*corev1.Secret) bool{
			"the object alone": func(*corev1.Secret) bool { return false }, "the ledger": ledgers, "the user's Secret": usersSecrets,
			"everything": func(*corev1.Secret) bool { return true },
		} {
			t.Run(name+", "+label, func(t *testing.T) {
				w := newWorld(t)
				ready(w, aPolicy(), anAdminSecret(), aServer(), aCredential())
				other := w.elsewhere(t)
				other.cut = true
				w.copySecrets(other, copied)
				heir := other.claim(w)
				arrange.before(other, heir)
				logins, secrets := w.logins(), other.data()
				for range 3 {
					other.settle(heir, 5)
					other.step(10 * time.Minute)
					if arrange.goes {
						break
					}
				}
				if calls := w.database.Calls("TakeOver"); calls > 0 || !cmp.Equal(logins, w.logins()) {
					t.Errorf("it was adopted, in %d calls", calls)
				}
				if !cmp.Equal(secrets, other.data()) {
					t.Error("Secrets changed before it was adopted")
				}
				if arrange.goes {
					return
				}
				if ready := condition(heir, v1alpha1.ConditionReady); strings.HasPrefix(ready, "True") {
					t.Errorf("Ready is %s before it was adopted", ready)
				}
				arrange.after(other, heir)
				other.step(time.Minute)
				for range 3 {
					other.settle(heir, 8)
					other.step(2 * time.Minute)
				}
				other.wantOwner(w.logins())
				other.wantCondition(heir, v1alpha1.ConditionReady, "True/Published")
			})
		}
	}
}

// shows makes the controllers' cache return the credential as it was; nil makes it return what exists.
func (w *world) shows(old *v1alpha1.DatabaseCredential) {
	w.restart()
	if old == nil {
		return
	}
	w.shared.client = interceptor.NewClient(w.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if into, ok := o.(*v1alpha1.DatabaseCredential); ok {
				old.DeepCopyInto(into)
				return nil
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
}

// If only the former owner's Secret was copied, and the login in it no longer works, the adopted credential continues with
// another one.
func TestAnInheritedSecretThatNoLongerWorksIsReplaced(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	other := w.elsewhere(t)
	other.cut = true
	w.copySecrets(other, usersSecrets)
	for _, n := range []string{"1", "2"} {
		w.request(object, v1alpha1.AnnotationRotate, n)
		w.settle(object, 5)
		w.request(object, v1alpha1.AnnotationRetirePrevious, n)
		w.settle(object, 5)
	}
	heir := other.claim(w)
	for range 4 {
		other.settle(heir, 8)
		other.step(10 * time.Minute)
	}
	other.wantCondition(heir, v1alpha1.ConditionReady, "True/Published")
	other.wantOwner(w.logins())
	if !other.accepted("orders-db") || heir.Status.Revision <= object.Status.Revision {
		t.Errorf("revision %d, and the former owner was at %d:%s", heir.Status.Revision, object.Status.Revision, describeConditions(heir))
	}
}
