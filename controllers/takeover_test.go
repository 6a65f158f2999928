// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
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

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend/backendtest"
)

// former is how the annotation names the credential of objects_test.go in this world.
func (w *world) former() string {
	return strings.Join([]string{w.clusterUID(), w.namespace, "orders"}, "/")
}

// claim makes the credential in a world, and hands over to it what belongs to the one in another world.
func (w *world) claim(from *world) *v1alpha1.DatabaseCredential {
	w.t.Helper()
	object := aCredential()
	object.Annotations = map[string]string{v1alpha1.AnnotationTakeOverFrom: from.former()}
	w.create(aPolicy(), anAdminSecret(), aServer(), object)
	return object
}

// wantOwner fails the test unless every login carries the mark of the credential in this world.
func (w *world) wantOwner(logins map[string]backendtest.FakeLogin) {
	w.t.Helper()
	for name, login := range logins {
		if login.Owner != w.former() {
			w.t.Errorf("the mark of %s names %s, want %s", name, login.Owner, w.former())
		}
	}
	if len(logins) == 0 {
		w.t.Error("there are no logins")
	}
}

// stalledBy returns the message of an object that is stalled for a reason; the test fails where it is not.
func (w *world) stalledBy(o client.Object, reason string) string {
	w.t.Helper()
	stalled := meta.FindStatusCondition(conditionsOfObject(o), v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Reason != reason {
		w.t.Errorf("it is not stalled by %s:%s", reason, describeConditions(o))
		return ""
	}
	return stalled.Message
}

// Two namespaces may use the same server. Whoever may create an object in one of them cannot have the logins of an object
// that exists in the other, whatever was copied, at whatever stage, and whoever looks; when that one is gone, it can.
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
			w.request(object, v1alpha1.AnnotationRotate, "it goes on")
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

// Where the former owner cannot be looked up, nothing is taken over, and the missing right is named.
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
				t.Errorf("it is not said what could not be read:%s", text)
			}
			if name == "403" {
				if text := describeConditions(thief); !strings.Contains(text, "get") || !strings.Contains(text, "databasecredentials") {
					t.Errorf("the missing right is not named:%s", text)
				}
			}
		})
	}
}

// wantKept fails the test unless the object says that the one in another world has what it was told to take over.
func (w *world) wantKept(o client.Object, owner *world, kind string) {
	w.t.Helper()
	if message := w.stalledBy(o, "SecretConflict"); !strings.Contains(message, kind+" "+owner.namespace+"/"+o.GetName()+" still exists") {
		w.t.Errorf("it is not said who has the key still: %s", message)
	}
}

// A private key is not taken over while the object that publishes it exists in this cluster.
func TestALivePrivateKeyIsNotTakenOver(t *testing.T) {
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

// A hand-over passes the same checks as a new credential before it changes a mark.
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
			server.Spec.AllowedOwners = []v1alpha1.RolePattern{"somebody_else"}
			other.create(aPolicy(), anAdminSecret(), server, heir)
			logins := w.logins()
			other.settle(heir, 5)
			other.stalledBy(heir, "OwnerForbidden")
			if diff := cmp.Diff(logins, w.logins()); diff != "" {
				t.Errorf("a credential that the server does not allow took over: %s", diff)
			}
		})
	}
}
