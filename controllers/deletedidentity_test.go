// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

func TestADeletedIdentityLeavesNothingInMemory(t *testing.T) {
	w := newWorld(t)
	// A cache that kept nothing of the Secret.
	cache := interceptor.NewClient(w.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, o, opts...)
			secretstore.StripAll(o.(*corev1.Secret))
			return err
		},
	})
	request := ctrl.Request{NamespacedName: types.NamespacedName{Namespace: w.namespace, Name: "gone"}}
	for name, kind := range map[string]client.Object{"a": &v1alpha1.ClientIdentity{}, "b": &v1alpha1.ServerIdentity{}} {
		secrets := w.shared.secrets.Client(nameOf(kind, request), cache, w.client)
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Type: corev1.SecretTypeOpaque,
			Data: map[string][]byte{"ca.crt": []byte("public")}}
		if err := secrets.Create(w.ctx, secret); err != nil {
			t.Fatal(err)
		}
		if err := secrets.Get(w.ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			t.Fatal(err)
		}
		if writes, held := w.shared.secrets.Remembered(); writes != 1 || held != 1 {
			t.Fatalf("%d writes are remembered and %d Secrets are held for an identity", writes, held)
		}
		if _, err := w.reconcilerOf(kind).Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if writes, held := w.shared.secrets.Remembered(); writes+held != 0 {
		t.Errorf("%d Secrets are held, and %d writes remembered, without an owner", held, writes)
	}
}
