// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestOnlyOurOwnLastWriteTriggersNoReconcile(t *testing.T) {
	secret := func(version, owner string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app-mtls", ResourceVersion: version,
			Annotations: map[string]string{v1alpha1.AnnotationOwner: owner}}}
	}
	const owner = "ClientIdentity/app"
	w := NewSelfWriteFilter()
	clients, servers := w.Others("ClientIdentity"), w.Others("ServerIdentity")
	w.note("app", secret("7", owner))
	// Both kinds watch Secrets, and either filter may be called first.
	if !servers.Create(event.CreateEvent{Object: secret("7", owner)}) {
		t.Error("the filter of the other kind dropped the event as its own")
	}
	if clients.Create(event.CreateEvent{Object: secret("7", owner)}) {
		t.Error("our own write wakes its owner")
	}
	if !clients.Update(event.UpdateEvent{ObjectOld: secret("7", owner), ObjectNew: secret("8", owner)}) {
		t.Error("another user's write wakes no object")
	}
	if clients.Update(event.UpdateEvent{ObjectOld: secret("8", owner), ObjectNew: secret("8", owner)}) {
		t.Error("an update that changes nothing wakes an object")
	}
	w.note("app", secret("9", owner))
	if !clients.Update(event.UpdateEvent{ObjectOld: secret("8", "ClientIdentity"+"/other"), ObjectNew: secret("9", owner)}) {
		t.Error("the owner that lost the Secret to us is not woken")
	}
}

// A cache older than our last write is bypassed, and no read waits for it: the label that it selects by may be gone.
func TestACacheOlderThanOurLastWriteIsBypassed(t *testing.T) {
	at := func(version string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app-mtls", ResourceVersion: version}}
	}
	for name, tc := range map[string]struct{ written, cached, want string }{
		"nothing was written":            {"", "7", "7"},
		"the cache has seen our write":   {"7", "7", "7"},
		"the cache has seen a later one": {"7", "12", "12"},
		"the cache is older":             {"12", "7", "live"},
	} {
		t.Run(name, func(t *testing.T) {
			cached := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if !(&client.GetOptions{}).ApplyOptions(opts).DisableReadYourWritesConsistency {
						t.Error("the read waits for our writes")
					}
					o.SetNamespace("shop")
					o.SetName("app-mtls")
					o.SetResourceVersion(tc.cached)
					return nil
				},
			})
			live := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
					o.SetResourceVersion("live")
					return nil
				},
			})
			w := NewSelfWriteFilter()
			if tc.written != "" {
				w.note("app", at(tc.written))
			}
			var got corev1.Secret
			if err := w.Client("app", cached, live).Get(t.Context(), client.ObjectKeyFromObject(at("")), &got); err != nil || got.ResourceVersion != tc.want {
				t.Errorf("read %q, %v; want %q", got.ResourceVersion, err, tc.want)
			}
		})
	}
}

// A webhook may hide a Secret from the watch forever: one write is remembered per existing owner.
func TestWritesThatNoWatchShowsAreForgotten(t *testing.T) {
	t.Parallel()
	w := NewSelfWriteFilter()
	write := func(owner, name string, version int) {
		w.note(owner, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: fmt.Sprint(version)}})
	}
	expect := func(what string, want int) {
		t.Helper()
		if len(w.versions) != want || len(w.byOwner) != want {
			t.Errorf("%s: %d writes of %d owners are remembered, want %d", what, len(w.versions), len(w.byOwner), want)
		}
	}
	for i := range 1000 {
		write("app", "app-mtls", i+1)
	}
	expect("many writes of one Secret", 1)
	for i := range 1000 {
		write("app", fmt.Sprint("app-", i), i+1)
	}
	expect("many Secrets that one owner named", 1)
	for i := range 1000 {
		write(fmt.Sprint("app-", i), "app-mtls", i+1)
	}
	expect("many owners that named one Secret, and another one", 2)
	for i := range 1000 {
		w.Release(fmt.Sprint("app-", i))
	}
	w.Release("app")
	expect("all owners are gone", 0)
	write("app", "app-mtls", 1)
	w.Release("other")
	expect("another owner is gone", 1)
	w.forget(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app-mtls"}})
	expect("the Secret is gone", 0)
}
