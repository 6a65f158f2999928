// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Secrets of the previous release do not record their origin: they are accepted as they are, nothing rotates, and after one
// write each they record it.
func TestSecretsOfThePreviousReleaseAreUpgradedSilently(t *testing.T) {
	w := newWorld(t)
	authority, identity, object := anAuthority(), aClientIdentity(), aCredential()
	ready(w, authority, identity, aPolicy(), anAdminSecret(), aServer(), object)
	var list corev1.SecretList
	if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelKind}); err != nil {
		t.Fatal(err)
	}
	for _, secret := range list.Items {
		w.edit(&secret, func() {
			delete(secret.Annotations, v1alpha1.AnnotationOwnerNamespace)
			delete(secret.Annotations, v1alpha1.AnnotationOwnerCluster)
			delete(secret.Annotations, v1alpha1.AnnotationRotateHonored)
		})
	}
	before := w.data()
	w.restart()
	w.events()
	w.written()
	objects, counts := []client.Object{authority, identity, object}, map[string]int{}
	settleAll := func(after time.Duration) (secrets int) {
		w.step(after)
		for _, o := range objects {
			w.settle(o, 5)
		}
		for _, this := range w.written() {
			if this.kind == "Secret" {
				counts[this.name]++
				secrets++
			}
		}
		return secrets
	}
	// The authority's own Secret is written at once. Those of ten thousand objects are written over five minutes.
	if wrote := settleAll(0); wrote != 1 || counts[string(authority.Spec.SecretName())] != 1 {
		t.Errorf("a start writes at once: %v", counts)
	}
	for _, o := range objects[1:] {
		if wake := w.reconcile(o).RequeueAfter; wake > 5*time.Minute {
			t.Errorf("%T is reconciled only after %s, and its Secret must be written within five minutes", o, wake)
		}
	}
	settleAll(5 * time.Minute)
	for _, o := range objects {
		if want := map[bool]string{true: "True/Serving", false: "True/Published"}[o == client.Object(authority)]; condition(o, v1alpha1.ConditionReady) != want {
			t.Errorf("%T: %s", o, describeConditions(o))
		}
	}
	if diff := cmp.Diff(before, w.data()); diff != "" {
		t.Error("something was recreated")
	}
	if events := w.events(); len(events) > 0 {
		t.Errorf("reported %q", events)
	}
	for _, secret := range list.Items {
		if counts[secret.Name] != 1 {
			t.Errorf("Secret %s was written %d times", secret.Name, counts[secret.Name])
		}
	}
	w.restart()
	if wrote := settleAll(time.Minute) + settleAll(5*time.Minute); wrote != 0 {
		t.Errorf("the start after that writes %d Secrets: %v", wrote, counts)
	}
	for name := range before {
		annotations := w.secret(name).Annotations
		if annotations[v1alpha1.AnnotationOwnerNamespace] != w.namespace || annotations[v1alpha1.AnnotationOwnerCluster] != w.clusterUID() {
			t.Errorf("Secret %s does not record where it belongs: %v", name, annotations)
		}
	}
}
