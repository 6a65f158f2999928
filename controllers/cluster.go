// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// clusterID reads once which cluster this is: the UID of the namespace kube-system, which a restore keeps and a new
// cluster has anew.
type clusterID struct {
	live client.Reader

	mu  sync.Mutex
	uid string
}

func (c *clusterID) id(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uid != "" {
		return c.uid, nil
	}
	var namespace corev1.Namespace
	if err := c.live.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &namespace); err != nil {
		return "", refusal.Fault("reading the UID of namespace "+metav1.NamespaceSystem, err, nil)
	}
	c.uid = string(namespace.UID)
	return c.uid, nil
}

// known is the same, empty where it cannot be read just now: then the cluster is neither compared nor written down.
func (c *clusterID) known(ctx context.Context) string {
	uid, err := c.id(ctx)
	if err != nil {
		return ""
	}
	return uid
}

// ownerFor is the object as an owner of Secrets in namespace.
func ownerFor(kind string, object client.Object, cluster, namespace string) secretstore.Owner {
	return secretstore.Owner{
		GVK: v1alpha1.GroupVersion.WithKind(kind), Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
		Cluster: cluster, Namespace: namespace, Former: formerOf(object, namespace),
	}
}

// formerOf is the owner from which a person lets the object take over; nobody where the object is on its way out.
func formerOf(object client.Object, namespace string) string {
	if !object.GetDeletionTimestamp().IsZero() {
		return ""
	}
	return secretstore.FormerOwner(object.GetAnnotations()[v1alpha1.AnnotationTakeOverFrom], namespace, object.GetName())
}
