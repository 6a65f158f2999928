// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// useExisting uses the cluster of KUBECONFIG. The demo removes the namespaces that it creates, so they must not exist yet.
func (d *demo) useExisting(ctx context.Context, _ *transcript) error {
	found, err := connect(d.options.kubeconfig)
	if err != nil {
		return err
	}
	for _, name := range []string{operatorNamespace, appNamespace, serverNamespace} {
		var namespace corev1.Namespace
		err := found.kube.Get(ctx, client.ObjectKey{Name: name}, &namespace)
		if err == nil {
			return fmt.Errorf("namespace %s already exists: the demo deletes the namespaces it uses at the end, so delete this one or use another cluster", name)
		}
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("looking for the namespace %s: %w", name, err)
		}
	}
	d.cluster = found
	d.place = newProcesses(found, d.programs, &d.said)
	d.noNode("Without a registry, images cannot be loaded into the nodes of this cluster.")
	return nil
}

// leaveExisting removes everything that the demo created in an existing cluster: the credentials first, while the
// operator still runs and can drop their logins.
func (d *demo) leaveExisting() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d.out.printf("Removing what the demo created in the cluster ...")
	for _, namespace := range []string{appNamespace, serverNamespace} {
		if err := d.kube.DeleteAllOf(ctx, &v1alpha1.DatabaseCredential{}, client.InNamespace(namespace)); err != nil {
			continue // the kinds are not installed yet
		}
		err := poll(ctx, 300*time.Millisecond, 30*time.Second, func(ctx context.Context) error {
			var left v1alpha1.DatabaseCredentialList
			if err := d.kube.List(ctx, &left, client.InNamespace(namespace)); err != nil || len(left.Items) > 0 {
				return fmt.Errorf("%d credentials are left: %w", len(left.Items), err)
			}
			return nil
		})
		if err != nil {
			d.out.printf("  %s: %v", namespace, err)
		}
	}
	for _, name := range []string{appNamespace, serverNamespace} {
		d.remove(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, object := range slices.Backward(d.shipped) {
		made := &unstructured.Unstructured{}
		made.SetGroupVersionKind(object.GroupVersionKind())
		made.SetNamespace(object.GetNamespace())
		made.SetName(object.GetName())
		d.remove(ctx, made)
	}
}

func (d *demo) remove(ctx context.Context, object client.Object) {
	if err := client.IgnoreNotFound(d.kube.Delete(ctx, object)); err != nil {
		d.out.printf("  removing %s: %v", object.GetName(), err)
	}
}
