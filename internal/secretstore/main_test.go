// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
)

// One API server serves all tests; each has its own namespace.
var server struct {
	once   sync.Once
	env    *envtest.Environment
	config *rest.Config
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.env != nil {
		if err := server.env.Stop(); err != nil && code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// apiServer returns the client configuration for a real API server.
func apiServer(t *testing.T) *rest.Config {
	t.Helper()
	server.once.Do(func() {
		server.env = &envtest.Environment{
			BinaryAssetsDirectory: os.Getenv("KUBEBUILDER_ASSETS"),
			// On a busy machine the default of 20 s is too short.
			ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute,
		}
		server.config, server.err = server.env.Start()
	})
	if server.err != nil {
		t.Fatalf("no API server: run `make assets` and set KUBEBUILDER_ASSETS to the folder that it prints: %v", server.err)
	}
	return server.config
}

// world is one namespace on the API server, and a client that counts writes.
type world struct {
	client.Client
	namespace string
	writes    *atomic.Int64
	reads     *atomic.Int64
}

func newWorld(t *testing.T) world {
	t.Helper()
	plain, err := client.NewWithWatch(apiServer(t), client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "secretstore-"}}
	if err := plain.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	w := world{namespace: ns.Name, writes: &atomic.Int64{}, reads: &atomic.Int64{}}
	w.Client = counting(plain, w.reads, w.writes)
	return w
}

func counting(c client.WithWatch, reads, writes *atomic.Int64) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			reads.Add(1)
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			writes.Add(1)
			return c.Create(ctx, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			writes.Add(1)
			return c.Update(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			writes.Add(1)
			return c.Patch(ctx, obj, patch, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			writes.Add(1)
			return c.Delete(ctx, obj, opts...)
		},
	})
}

// expectWrites fails unless do writes exactly want times.
func (w world) expectWrites(t *testing.T, want int64, what string, do func()) {
	t.Helper()
	before := w.writes.Load()
	do()
	if got := w.writes.Load() - before; got != want {
		t.Errorf("%s: %d writes, want %d", what, got, want)
	}
}

// secret returns a Secret, or nil if it does not exist.
func (w world) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	out := &corev1.Secret{}
	err := w.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, out)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	return out
}

// make creates a Secret as a user would.
func (w world) make(t *testing.T, secret *corev1.Secret) *corev1.Secret {
	t.Helper()
	secret.Namespace = w.namespace
	if err := w.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

// edit changes a Secret as a user would.
func (w world) edit(t *testing.T, name string, change func(*corev1.Secret)) {
	t.Helper()
	secret := w.secret(t, name)
	change(secret)
	if err := w.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

func (w world) drop(t *testing.T, name string) {
	t.Helper()
	if err := w.Delete(t.Context(), w.secret(t, name)); err != nil {
		t.Fatal(err)
	}
}

func owner(kind, name string) Owner {
	return Owner{GVK: v1alpha1.GroupVersion.WithKind(kind), Name: name, UID: types.UID("uid-of-" + name)}
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
