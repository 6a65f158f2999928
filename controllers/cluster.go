// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/refusal"
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
