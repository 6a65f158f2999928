// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// I9, R23: a namespace is deleted during an issue and during a rotation, whatever disappears first: nothing is created in it,
// nothing new reaches the database, every object is gone in bounded time, and there is no storm of requests.
func TestANamespaceDeletionRemovesEverything(t *testing.T) {
	stride := size.Number(5, 3)
	for nth := 1 + size.Random(t, 0).IntN(stride); nth <= 16; nth += stride {
		for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete} {
			t.Run(fmt.Sprintf("%s, after write %d", policy, nth), func(t *testing.T) { ends(t, nth, policy) })
		}
	}
}

func ends(t *testing.T, nth int, policy v1alpha1.DeletionPolicy) {
	t.Helper()
	s := newScene(t)
	authority, identity, login := anAuthority(), fixture.ClientIdentity("app"), aCredential("orders")
	identity.Spec.DeletionPolicy, login.Spec.DeletionPolicy = policy, policy
	s.ready(authority, aPolicy(), fixture.AdminSecret(), aServer())
	s.Create(identity, login)
	count := 0
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	end := func() { s.Delete(namespace) }
	s.setHook(func(_ context.Context, r world.Request, do func() error) error {
		err := do()
		if r.Writes() {
			if count++; count == nth {
				end()
			}
		}
		return err
	})
	s.settle(identity, login)
	s.Step(interval + time.Minute)
	s.settle(login)
	s.setHook(nil)
	if count < nth {
		end()
	}
	stages := s.Fake.Calls("Stage")
	secrets := func() int {
		var list corev1.SecretList
		if err := s.Client.List(s.Ctx, &list, client.InNamespace(s.Namespace)); err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	// The namespace controller deletes one kind after the other; here Secrets are deleted before rekey's kinds, which is the
	// worst case.
	if err := s.Client.DeleteAllOf(s.Ctx, &corev1.Secret{}, client.InNamespace(s.Namespace)); err != nil {
		t.Fatal(err)
	}
	s.counted()
	s.live(identity, 10*time.Minute)
	s.live(login, 10*time.Minute)
	if n := secrets(); n > 0 {
		t.Errorf("%d Secrets were created in a terminating namespace", n)
	}
	if writes, all := s.counted(); writes > 60 || all > 400 {
		t.Errorf("%d writes and %d requests for two objects in ten minutes", writes, all)
	}
	for _, o := range []client.Object{&v1alpha1.DatabaseServer{}, &v1alpha1.CertificateAuthority{}, &v1alpha1.RotationPolicy{}, &v1alpha1.ClientIdentity{}, &v1alpha1.DatabaseCredential{}} {
		if err := s.Client.DeleteAllOf(s.Ctx, o, client.InNamespace(s.Namespace)); err != nil {
			t.Fatal(err)
		}
	}
	s.live(login, 15*time.Minute)
	if err := s.Client.Get(s.Ctx, client.ObjectKeyFromObject(login), login); !apierrors.IsNotFound(err) {
		t.Errorf("the credential still exists: %v:%s", err, describe(login))
	}
	if s.reconcile(identity) != 0 || s.reconcile(login) != 0 {
		t.Error("a deleted object is requeued")
	}
	if more := s.Fake.Calls("Stage") - stages; more > 0 {
		t.Errorf("%d versions were staged without a record", more)
	}
}
