// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// namespaceEnds makes the real namespace controller delete everything, in any order, while a rotation is under way: all of
// it is deleted soon, and nothing is created that would block the namespace.
func namespaceEnds(s scene) {
	t := s.T
	p := newPlace(t, "e2e-ends")
	identity := p.identity("ends", internal, v1alpha1.DeletionDelete)
	password := p.credential("ends", v1alpha1.DeletionRetain)
	ready(t, identity)
	ready(t, password)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	asked := startAsking(ctx, p, []*v1alpha1.DatabaseCredential{password})
	err := awaitWritten(ctx, p, func(l secretstore.Ledger) bool { return l.Pending != nil && l.Pending.Stage != rotation.Discarded })
	asked()
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.name}}
	if err := env.kube.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	gone(t, namespace, client.ObjectKeyFromObject(namespace))
}
