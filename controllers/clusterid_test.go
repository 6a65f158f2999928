// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// hideCluster makes the UID of the cluster unreadable for a process that has not read it yet; a nil error makes it readable again.
func (w *world) hideCluster(err error) {
	w.unread = func(key client.ObjectKey, o client.Object) error {
		if _, ok := o.(*corev1.Namespace); ok && key.Name == metav1.NamespaceSystem {
			return err
		}
		return nil
	}
}

// unreadable lists failures of reading the namespace kube-system, and what conditions then report.
var unreadable = map[string]struct {
	err    error
	reason string
	words  []string
}{
	"the right is missing": {
		err: &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden,
			Message: `namespaces "kube-system" is forbidden: User "rekey" cannot get resource "namespaces" in API group "" in the namespace "kube-system"`}},
		reason: v1alpha1.ReasonForbidden, words: []string{"get", "namespaces", "ClusterRole"},
	},
	"the API server fails": {err: apierrors.NewInternalError(errors.New("etcd is down")), reason: v1alpha1.ReasonAPIServerFailed, words: []string{"kube-system"}},
}

// everyOwner returns one object of each kind that owns Secrets.
func everyOwner() (dependencies, owners []client.Object) {
	return []client.Object{aPolicy(), anAdminSecret(), aServer()},
		[]client.Object{anAuthority(), aClusterAuthority(), aClientIdentity(), aServerIdentity(), aCredential()}
}

func aClusterAuthority() *v1alpha1.ClusterCertificateAuthority {
	return fixture.ClusterAuthority("", func(a *v1alpha1.ClusterCertificateAuthority) {
		a.GenerateName, a.Spec.NamespaceSelector = "corporate-", nil
		fixture.SetAuthoritySecret(&a.Spec.AuthoritySpec, "corporate-ca")
	})
}

func isAuthority(o client.Object) bool {
	_, ok := o.(v1alpha1.AuthorityObject)
	return ok
}

// labeledSecrets returns rekey's Secrets unchanged, metadata included.
func (w *world) labeledSecrets() map[string]corev1.Secret {
	w.t.Helper()
	var list corev1.SecretList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelKind}))
	out := map[string]corev1.Secret{}
	for _, secret := range list.Items {
		out[secret.Name] = secret
	}
	return out
}

// wantNothingDone reconciles for a while, and fails the test if anything was created or changed, or an object does not
// report the reason.
func (w *world) wantNothingDone(objects []client.Object, reason string, words []string) {
	w.t.Helper()
	secrets, logins := w.labeledSecrets(), w.logins()
	for range 4 {
		for _, o := range objects {
			w.reconcile(o)
		}
		w.step(30 * time.Second)
	}
	if diff := cmp.Diff(secrets, w.labeledSecrets()); diff != "" {
		w.t.Errorf("Secrets were created or changed: %v became %v", keysOf(secrets), keysOf(w.labeledSecrets()))
	}
	if diff := cmp.Diff(logins, w.logins()); diff != "" {
		w.t.Error("logins were created or changed")
	}
	for _, o := range objects {
		said := false
		for _, c := range fixture.Conditions(o) {
			said = said || c.Reason == reason && with([]string{c.Message}, words...)
		}
		if !said {
			w.t.Errorf("%s does not report %s with %q:%s", kindOf(o), reason, words, describeConditions(o))
		}
	}
}

func keysOf[V any](in map[string]V) []string {
	var out []string
	for key := range maps.Keys(in) {
		out = append(out, key)
	}
	return out
}

// As long as the cluster's UID cannot be read, a copy cannot be distinguished from the original: no kind creates or changes
// anything, and what is published continues to be served.
func TestNothingIsCreatedBeforeTheClusterIsKnown(t *testing.T) {
	for name, tc := range unreadable {
		t.Run(name+", nothing was made yet", func(t *testing.T) {
			w := newWorld(t)
			dependencies, owners := everyOwner()
			w.create(append(dependencies, owners...)...)
			w.hideCluster(tc.err)
			w.wantNothingDone(owners, tc.reason, tc.words)
			w.hideCluster(nil)
			w.waitUntilReady(owners)
			for _, secret := range w.labeledSecrets() {
				if got := secret.Annotations[v1alpha1.AnnotationOwnerCluster]; got != w.clusterUID() {
					t.Errorf("Secret %s names cluster %q", secret.Name, got)
				}
			}
		})
		t.Run(name+", all of it is ours", func(t *testing.T) {
			w := newWorld(t)
			dependencies, owners := everyOwner()
			ready(w, append(dependencies, owners...)...)
			before := w.data()
			w.disturb(owners)
			w.restart()
			w.hideCluster(tc.err)
			w.wantNothingDone(owners, tc.reason, tc.words)
			for _, o := range owners {
				if !isAuthority(o) && !strings.HasPrefix(condition(o, v1alpha1.ConditionReady), "True/") {
					t.Errorf("what %s published is no longer served:%s", kindOf(o), describeConditions(o))
				}
			}
			if diff := cmp.Diff(before, w.data()); diff != "" || !w.accepted("orders-db") {
				t.Error("what was published is not served")
			}
			w.hideCluster(nil)
			w.waitUntilReady(owners)
			for key, secret := range w.data() {
				if kind := w.secret(key).Labels[v1alpha1.LabelKind]; strings.HasSuffix(kind, "Authority") && !cmp.Equal(secret, before[key]) {
					t.Errorf("Secret %s has another key", key)
				}
			}
		})
		t.Run(name+", all of it is a copy of another cluster's", func(t *testing.T) {
			w := newWorld(t)
			dependencies, owners := everyOwner()
			ready(w, append(dependencies, owners...)...)
			for key := range w.labeledSecrets() {
				secret := w.secret(key)
				w.edit(secret, func() { secret.Annotations[v1alpha1.AnnotationOwnerCluster] = "another-cluster" })
			}
			w.disturb(owners)
			w.restart()
			w.hideCluster(tc.err)
			w.wantNothingDone(owners, tc.reason, tc.words)
			w.hideCluster(nil)
			secrets := w.labeledSecrets()
			for _, o := range owners {
				w.step(time.Hour)
				w.settle(o, 3)
				if stalled := condition(o, v1alpha1.ConditionStalled); stalled == "" || !strings.Contains(describeConditions(o), "another-cluster") && !strings.Contains(describeConditions(o), "is not ready") {
					t.Errorf("%s is not fenced:%s", kindOf(o), describeConditions(o))
				}
			}
			if diff := cmp.Diff(secrets, w.labeledSecrets()); diff != "" {
				t.Error("a copy was changed after the cluster was known")
			}
		})
	}
}

// disturb creates work for every object: it requests a rotation and removes a label.
func (w *world) disturb(owners []client.Object) {
	w.t.Helper()
	for _, o := range owners {
		w.request(o, v1alpha1.AnnotationRotate, "now")
	}
	for key, secret := range w.labeledSecrets() {
		if secret.Type == v1alpha1.SecretTypeLedger {
			continue
		}
		w.edit(&secret, func() { delete(secret.Labels, v1alpha1.LabelManagedBy) })
		if w.secret(key).Labels[v1alpha1.LabelManagedBy] != "" {
			w.t.Fatalf("the label of Secret %s exists", key)
		}
	}
}

// waitUntilReady waits, by the test's clock, until every object is Ready.
func (w *world) waitUntilReady(owners []client.Object) {
	w.t.Helper()
	for range 3 {
		w.step(15 * time.Minute)
		for _, o := range owners {
			w.settle(o, 8)
		}
	}
	for _, o := range owners {
		if !strings.HasPrefix(condition(o, v1alpha1.ConditionReady), "True/") || condition(o, v1alpha1.ConditionStalled) != "" {
			w.t.Errorf("%s is not Ready now that the cluster is known:%s", kindOf(o), describeConditions(o))
		}
	}
}
