// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
)

// beside returns a world in another namespace with the same database.
func (w *world) beside(t *testing.T) *world {
	t.Helper()
	out := newWorld(t)
	out.database, out.engines, out.clock = w.database, w.engines, w.clock
	out.restart()
	return out
}

// elsewhere returns a world that appears to be another cluster with the same database.
func (w *world) elsewhere(t *testing.T) *world {
	t.Helper()
	out := w.beside(t)
	out.cluster = types.UID("cluster-of-" + out.namespace)
	out.restart()
	return out
}

// copySecrets copies rekey's Secrets to another world as a backup tool does: without what the API server set.
func (w *world) copySecrets(to *world, wanted func(*corev1.Secret) bool) {
	w.t.Helper()
	var list corev1.SecretList
	if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelKind}); err != nil {
		w.t.Fatal(err)
	}
	for _, secret := range list.Items {
		if wanted(&secret) {
			to.put(&corev1.Secret{Type: secret.Type, Data: secret.Data, ObjectMeta: metav1.ObjectMeta{
				Name: secret.Name, Labels: secret.Labels, Annotations: secret.Annotations, OwnerReferences: secret.OwnerReferences}})
		}
	}
}

// put creates a Secret, and replaces any Secret with its name.
func (w *world) put(secret *corev1.Secret) {
	w.t.Helper()
	secret.Namespace = w.namespace
	if err := w.client.Delete(w.ctx, secret.DeepCopy()); err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	w.create(secret)
}

func (w *world) clusterUID() string {
	w.t.Helper()
	var namespace corev1.Namespace
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &namespace); err != nil {
		w.t.Fatal(err)
	}
	return string(namespace.UID)
}

// ledgers and usersSecrets select what is copied.
func ledgers(s *corev1.Secret) bool      { return s.Type == v1alpha1.SecretTypeLedger }
func usersSecrets(s *corev1.Secret) bool { return s.Type != v1alpha1.SecretTypeLedger }

// data returns the contents of the namespace's Secrets.
func (w *world) data() map[string]map[string][]byte {
	w.t.Helper()
	var list corev1.SecretList
	if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelKind}); err != nil {
		w.t.Fatal(err)
	}
	out := map[string]map[string][]byte{}
	for _, secret := range list.Items {
		out[secret.Name] = secret.Data
	}
	return out
}

// wantFenced fails the test unless the object reports, with one of the reasons, the owner of the credential.
func (w *world) wantFenced(o client.Object, owner *world, reasons ...string) {
	w.t.Helper()
	stalled := meta.FindStatusCondition(fixture.Conditions(o), v1alpha1.ConditionStalled)
	if stalled == nil || !strings.Contains(strings.Join(reasons, " "), stalled.Reason) ||
		!strings.Contains(stalled.Message, owner.namespace+"/"+o.GetName()) || !strings.Contains(stalled.Message, owner.clusterUID()) {
		w.t.Errorf("the copy does not report that it is one of %s/%s:%s", owner.namespace, o.GetName(), describeConditions(o))
	}
	if ready := meta.FindStatusCondition(fixture.Conditions(o), v1alpha1.ConditionReady); ready == nil || ready.Status == metav1.ConditionTrue {
		w.t.Errorf("the copy is Ready:%s", describeConditions(o))
	}
}

// stopped returns a world in which the process died at the nth write of a life: the credential is created, rotated on request,
// and its spec changed while the next candidate is under way. more reports whether the life has more writes.
func stopped(t *testing.T, nth int) (w *world, object *v1alpha1.DatabaseCredential, more bool) {
	t.Helper()
	w, object = newWorld(t), aCredential()
	w.create(aPolicy(), anAdminSecret(), aServer(), object)
	w.cut = true
	count := 0
	w.fail = func(write) error {
		if count++; count > nth {
			return errors.New("the process is dead")
		}
		return nil
	}
	live := func() {
		for range 6 {
			_, _ = w.reconcilerOf(object).Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		}
	}
	mine := func(change func(o *v1alpha1.DatabaseCredential)) {
		fail := w.fail
		w.fail = nil
		w.edit(object, func() { change(object) })
		w.fail = fail
	}
	live()
	mine(func(o *v1alpha1.DatabaseCredential) {
		o.Annotations = map[string]string{v1alpha1.AnnotationRotate: "1"}
	})
	live()
	w.step(2 * time.Hour)
	live()
	// The third version gets stuck, and then no longer matches the spec.
	w.database.Before("Stage", func() { w.database.Before("Verify", func() { w.database.SetDown(true) }) })
	mine(func(o *v1alpha1.DatabaseCredential) { o.Annotations[v1alpha1.AnnotationRotate] = "2" })
	live()
	w.database.SetDown(false)
	w.database.Before("Stage", func() {})
	w.database.Before("Verify", func() {})
	mine(func(o *v1alpha1.DatabaseCredential) { o.Spec.Password.Length = 40 })
	w.step(time.Minute)
	live()
	w.fail = nil
	return w, object, count > nth
}

// A whole life, copied to another namespace after each of its writes: the copy creates and changes nothing and reports the
// owner, and the first owner continues.
func TestACopiedCredentialIsFencedAtEveryStageOfALife(t *testing.T) {
	tried := map[string]int{}
	copies := map[string]func(*corev1.Secret) bool{
		"everything": func(*corev1.Secret) bool { return true }, "the ledger": ledgers, "the user's Secret": usersSecrets,
		"the objects alone": func(*corev1.Secret) bool { return false },
	}
	parts := []string{"the ledger", "the user's Secret", "the objects alone"}
	stride, writes := size.Choose(7, 4, 1), 0 // The parts take turns unless the stride is a multiple of their number.
	for nth, more := 1+size.RandomFrom(t, 1).IntN(stride), true; more; nth += stride {
		writes = nth
		var w *world
		var object *v1alpha1.DatabaseCredential
		w, object, more = stopped(t, nth)
		if len(w.logins()) == 0 {
			continue // No owner exists yet.
		}
		// Everything each time, and a part in turn.
		for _, name := range []string{"everything", parts[nth%len(parts)]} {
			tried[name]++
			copyIsFenced(t, w, w.beside(t), fmt.Sprintf("%s, after write %d", name, nth), copies[name])
		}
		firstContinues(t, w, object, nth)
	}
	t.Logf("copied, by what was copied: %v", tried)
	if writes < 20 {
		t.Errorf("a life has only %d writes", writes)
	}
}

func copyIsFenced(t *testing.T, w, other *world, where string, copied func(*corev1.Secret) bool) {
	t.Helper()
	object := aCredential()
	other.create(aPolicy(), anAdminSecret(), aServer())
	w.copySecrets(other, copied)
	w.get(&v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: object.Name}})
	object.Annotations = map[string]string{v1alpha1.AnnotationRotate: "in the copy"}
	other.create(object)
	before, logins := other.data(), w.logins()
	for range 3 {
		other.settle(object, 5)
		other.step(25 * time.Hour)
	}
	other.step(-75 * time.Hour)
	other.wantFenced(object, w, "Fenced", "SecretConflict")
	if diff := cmp.Diff(before, other.data()); diff != "" {
		t.Errorf("%s: Secrets of the copy changed", where)
	}
	if diff := cmp.Diff(logins, w.logins()); diff != "" {
		t.Errorf("%s: logins changed", where)
	}
	for _, reported := range other.events() {
		if strings.Contains(reported, "drop ") || strings.Contains(reported, " published") || strings.Contains(reported, "Retired") {
			t.Errorf("%s: reported %q", where, reported)
		}
	}
	// Its deletion removes nothing else, and advises nothing.
	if err := other.client.Delete(other.ctx, object); err != nil {
		t.Fatal(err)
	}
	other.reconcile(object)
	if err := other.client.Get(other.ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
		t.Errorf("%s: the copy cannot be deleted (%v):%s", where, err, describeConditions(object))
	}
	if reported := other.events(); len(reported) > 0 || !cmp.Equal(logins, w.logins()) {
		t.Errorf("%s: after the deletion of the copy: logins changed, or reported %q", where, reported)
	}
}

func firstContinues(t *testing.T, w *world, object *v1alpha1.DatabaseCredential, nth int) {
	t.Helper()
	w.restart()
	for range 3 {
		w.settle(object, 8)
		w.step(2 * time.Hour)
	}
	w.settle(object, 8)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionStalled, "")
	if !w.accepted("orders-db") || object.Status.Revision < 2 {
		t.Errorf("after write %d: the first owner is at revision %d:%s", nth, object.Status.Revision, describeConditions(object))
	}
}

// Identities: the Secret is all there is, and the private key must not exist twice unreported.
func TestACopiedPrivateKeyIsReported(t *testing.T) {
	for kind, object := range map[string]func() client.Object{
		kindClientIdentity: func() client.Object { return aClientIdentity() },
		kindServerIdentity: func() client.Object { return aServerIdentity() },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			first := object()
			ready(w, anAuthority(), first)
			other := w.beside(t)
			copied := object()
			w.copySecrets(other, func(s *corev1.Secret) bool {
				return s.Annotations[v1alpha1.AnnotationOwner] == kind+"/"+first.GetName()
			})
			authority := anAuthority()
			other.create(authority)
			other.settle(authority, 3)
			name := secretNameOf(copied)
			key := other.secret(name).Data["tls.key"]
			other.create(copied)
			before := other.data()
			other.settle(copied, 3)
			other.wantFenced(copied, w, "SecretConflict")
			message := meta.FindStatusCondition(fixture.Conditions(copied), v1alpha1.ConditionStalled).Message
			if !strings.Contains(message, "private key") || !strings.Contains(message, "kubectl -n "+other.namespace+" delete secret "+name) {
				t.Errorf("no message says that the key exists twice, and what to do: %s", message)
			}
			if diff := cmp.Diff(before, other.data()); diff != "" {
				t.Error("Secrets of the copy changed")
			}
			if err := other.client.Delete(other.ctx, other.secret(name)); err != nil {
				t.Fatal(err)
			}
			other.step(time.Minute)
			other.settle(copied, 3)
			other.wantCondition(copied, v1alpha1.ConditionReady, "True/Published")
			if string(other.secret(name).Data["tls.key"]) == string(key) {
				t.Error("the key of the first one was published again")
			}
		})
	}
}

func secretNameOf(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.ClientIdentity:
		return string(o.Spec.SecretName)
	case *v1alpha1.ServerIdentity:
		return string(o.Spec.SecretName)
	case *v1alpha1.CertificateAuthority:
		return string(o.Spec.SecretName())
	case *v1alpha1.DatabaseCredential:
		return string(o.Spec.SecretName)
	}
	return ""
}

// A signing key is copied with its record: nothing is signed with it.
func TestACopiedAuthoritySignsNothing(t *testing.T) {
	w := newWorld(t)
	first := anAuthority()
	ready(w, first)
	other := w.beside(t)
	w.copySecrets(other, usersSecrets)
	copied, identity := anAuthority(), aClientIdentity()
	other.create(copied, identity)
	other.settle(copied, 3)
	other.wantFenced(copied, w, "SecretConflict")
	other.settle(identity, 3)
	other.wantCondition(identity, v1alpha1.ConditionReady, "False/AuthorityNotReady")
	other.request(copied, v1alpha1.AnnotationTakeOverFrom, w.clusterUID()+"/"+w.namespace)
	other.step(time.Minute)
	other.settle(copied, 3)
	other.wantKept(copied, w, "CertificateAuthority")
	if err := w.client.Delete(w.ctx, first); err != nil {
		t.Fatal(err)
	}
	other.step(time.Minute)
	other.settle(copied, 3)
	other.wantCondition(copied, v1alpha1.ConditionReady, "True/Serving")
	other.settle(identity, 3)
	other.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
}

// What a user hands over is adopted in one go, from whatever stage it was copied at, even if the process dies after each
// write; a handover that names another owner does nothing.
func TestACopyIsHandedOverByOneCommand(t *testing.T) {
	stride := size.Choose(9, 6, 3)
	for nth := 4 + 3*size.RandomFrom(t, 2).IntN(stride/3); ; nth += stride {
		w, object, more := stopped(t, nth)
		other := w.elsewhere(t)
		other.cut = true
		other.create(aPolicy(), anAdminSecret(), aServer())
		w.copySecrets(other, func(*corev1.Secret) bool { return true })
		w.get(object)
		copied := aCredential()
		copied.Spec.Password.Length = object.Spec.Password.Length
		copied.Annotations = maps.Clone(object.Annotations)
		other.create(copied)
		other.settle(copied, 3)
		other.wantFenced(copied, w, "Fenced", "SecretConflict")
		other.request(copied, v1alpha1.AnnotationTakeOverFrom, w.clusterUID()+"/somewhere-else")
		other.step(time.Minute)
		other.settle(copied, 3)
		other.wantFenced(copied, w, "Fenced", "SecretConflict")
		other.request(copied, v1alpha1.AnnotationTakeOverFrom, w.clusterUID()+"/"+w.namespace)
		for died := 1; died < 6; died++ { // It dies after its first, second, ... write.
			count := 0
			other.fail = func(write) error {
				if count++; count > died {
					return errors.New("the process is dead")
				}
				return nil
			}
			_, _ = other.reconcilerOf(copied).Reconcile(other.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(copied)})
			other.restart()
			other.step(time.Minute)
		}
		other.fail = nil
		firstContinues(t, other, copied, nth)
		for name, login := range other.logins() {
			if want := strings.Join([]string{other.clusterUID(), other.namespace, "orders"}, "/"); login.Owner != want {
				t.Errorf("after write %d: the marker of %s names %s, want %s", nth, name, login.Owner, want)
			}
		}
		// The former owner sees that it has nothing left, and changes nothing.
		logins := w.logins()
		w.restart()
		w.step(26 * time.Hour)
		w.settle(object, 8)
		if diff := cmp.Diff(logins, w.logins()); diff != "" {
			t.Errorf("after write %d: the former owner changed what it handed over", nth)
		}
		if !more {
			return
		}
	}
}
