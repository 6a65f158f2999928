// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/internal/secretstore"
)

// leftOutWorld is an API server with one Secret, and a cache that may have kept nothing of it.
type leftOutWorld struct {
	mu       sync.Mutex
	api      *corev1.Secret
	whole    bool
	lives    int
	liveFail error
	writes   *SelfWriteFilter
}

func newLeftOutWorld() *leftOutWorld {
	w := &leftOutWorld{writes: NewSelfWriteFilter(), api: labeled("shop", "app-mtls")}
	w.api.UID, w.api.ResourceVersion = "uid", "7"
	w.api.Annotations = map[string]string{"note": "theirs"}
	return w
}

// reader returns a client that reads through the cache for an identity.
func (w *leftOutWorld) reader(owner string) client.Client {
	get := func(change func(*corev1.Secret) error) client.Client {
		return interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
			Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				secret := o.(*corev1.Secret)
				w.api.DeepCopyInto(secret)
				return change(secret)
			},
		})
	}
	cached := get(func(secret *corev1.Secret) error {
		if !w.whole {
			secretstore.StripAll(secret)
			return nil
		}
		_, err := secretstore.StripMaterial(secret)
		return err
	})
	live := get(func(*corev1.Secret) error { w.lives++; return w.liveFail })
	return w.writes.Client(owner, cached, live)
}

func (w *leftOutWorld) read(t *testing.T, owner string) *corev1.Secret {
	t.Helper()
	var got corev1.Secret
	if err := w.reader(owner).Get(t.Context(), client.ObjectKeyFromObject(w.api), &got); err != nil {
		t.Fatal(err)
	}
	if secretstore.LeftOut(&got) || string(got.Data["tls.crt"]) != string(w.api.Data["tls.crt"]) || got.Annotations["note"] != "theirs" {
		t.Errorf("what was read is not the Secret: %d keys, annotations %v", len(got.Data), got.Annotations)
	}
	return &got
}

// A Secret that the cache saw before its identity is read from the API server once for each of its states.
func TestASecretOmittedFromTheCacheIsReadOnce(t *testing.T) {
	t.Parallel()
	w := newLeftOutWorld()
	expect := func(what string, owner string, lives int) {
		t.Helper()
		before := w.lives
		for range 20 {
			w.read(t, owner)
		}
		if got := w.lives - before; got != lives {
			t.Errorf("%s: 20 passes read it %d times, want %d", what, got, lives)
		}
	}
	expect("as the cache saw it first", "app", 1)
	first := w.writes.held.byOwner["app"]
	want := w.api.DeepCopy()
	if _, err := secretstore.StripMaterial(want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, first); diff != "" || string(first.Data["tls.key"]) == "private" {
		t.Error("what is held is not what a cache would hold")
	}
	expect("another identity that names it", "other", 1)
	w.api.ResourceVersion, w.api.Data["tls.crt"] = "8", []byte("another")
	expect("after it was changed", "app", 1)
	w.api.UID = "another uid"
	expect("after it was recreated", "app", 1)
	w.writes.Release("app")
	expect("after its identity was deleted", "app", 1)
	w.api.ResourceVersion, w.api.Annotations["large"] = "9", strings.Repeat("x", 200<<10)
	expect("when it has more in it than is ever held", "app", 20)
	if n := len(w.writes.held.byOwner); n != 1 { // that of the other identity
		t.Errorf("%d Secrets are held", n)
	}
	delete(w.api.Annotations, "large")
	w.whole = true
	expect("when the cache has it", "app", 0)
	expect("when the cache has it, for another identity", "other", 0)
	if n := len(w.writes.held.byOwner); n != 0 {
		t.Errorf("%d Secrets are held beside the cache", n)
	}
	w.whole, w.liveFail = false, errors.New("the API server is down")
	var got corev1.Secret
	if err := w.reader("app").Get(t.Context(), client.ObjectKeyFromObject(w.api), &got); !errors.Is(err, w.liveFail) || len(w.writes.held.byOwner) != 0 {
		t.Errorf("a read that failed: %v, and %d are held", err, len(w.writes.held.byOwner))
	}
}

// A response of the API server is not merged into the cache's copy.
func TestReadsThatBypassTheCacheReturnWhatTheAPIServerHas(t *testing.T) {
	t.Parallel()
	w := newLeftOutWorld()
	w.whole = true
	w.writes.note("app", &corev1.Secret{ObjectMeta: *w.api.ObjectMeta.DeepCopy()})
	var got corev1.Secret
	cached := w.reader("app")
	w.writes.versions[client.ObjectKeyFromObject(w.api)] = selfWrite{"app", "9"}
	got.Data = map[string][]byte{"stale": []byte("from the cache")}
	if err := cached.Get(t.Context(), client.ObjectKeyFromObject(w.api), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.api, &got); diff != "" || w.lives != 1 {
		t.Errorf("read live %d times:\n%s", w.lives, diff)
	}
}

func TestHeldSecretsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	w := newLeftOutWorld()
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 100 {
				owner := fmt.Sprint("app-", (n+i)%4)
				w.read(t, owner)
				if i%10 == 0 {
					w.writes.Release(owner)
				}
			}
		})
	}
	all.Wait()
	if n := len(w.writes.held.byOwner); n > 4 {
		t.Errorf("%d Secrets are held for 4 identities", n)
	}
}
