// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// stripping returns a reader that reads live and returns what the cache would hold.
func stripping(w world) client.Reader {
	return readerFunc(func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
		if err := w.Get(ctx, key, obj); err != nil {
			return err
		}
		_, err := StripMaterial(obj)
		return err
	})
}

// TestASecretOmittedFromTheCacheIsReadLive covers a Secret that existed before the identity that names it.
func TestASecretOmittedFromTheCacheIsReadLive(t *testing.T) {
	w := newWorld(t)
	opts := w.publishedOptions("app")
	record := issued(t, 7, "app")
	w.issue(t, opts, record)
	opts.Reader = readerFunc(func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
		if err := w.Get(ctx, key, obj); err != nil {
			return err
		}
		StripAll(obj.(*corev1.Secret))
		return nil
	})
	for _, isNew := range []bool{false, true} {
		opts.Fresh = isNew
		w.expectWrites(t, 0, "loading what was left out", func() {
			store := NewPublished(opts)
			snapshot := must[Snapshot](t)(store.Load(t.Context()))
			expectTarget(t, snapshot, rotation.TargetShowsCurrent)
			if diff := cmp.Diff(stored(t, record), snapshot.Ledger.Current, sameLedger); diff != "" {
				t.Error(diff)
			}
			must[Snapshot](t)(store.Publish(t.Context()))
		})
	}
}

func TestStaleCopyWritesNothing(t *testing.T) {
	w := newWorld(t)
	opts := w.publishedOptions("app")
	w.issue(t, opts, issued(t, 7, "app"))
	opts.Reader = stripping(w)
	stale := NewPublished(opts)
	ledger := must[Snapshot](t)(stale.Load(t.Context())).Ledger
	w.issue(t, opts, issued(t, 8, "app"))
	before := w.secret(t, "mtls")

	record := issued(t, 8, "app")
	if _, err := stale.Save(t.Context(), Ledger{Current: &record, LastSeq: 8}); !apierrors.IsConflict(err) {
		t.Errorf("a second key for one number: %v", err)
	}
	ledger.Rotate.Seen = "please"
	if _, err := stale.Save(t.Context(), ledger); !apierrors.IsConflict(err) {
		t.Errorf("a token on a stale copy: %v", err)
	}
	if got := w.secret(t, "mtls"); got.ResourceVersion != before.ResourceVersion {
		t.Error("it was written")
	}
	// A repair reads again on its own, and finds nothing to do.
	expectTarget(t, must[Snapshot](t)(stale.Publish(t.Context())), rotation.TargetShowsCurrent)
	if got := w.secret(t, "mtls"); got.ResourceVersion != before.ResourceVersion {
		t.Error("the newer version was overwritten")
	}
	other := NewPublished(opts)
	must[Snapshot](t)(other.Load(t.Context()))
	w.drop(t, "mtls")
	if _, err := other.Save(t.Context(), Ledger{Current: &record, LastSeq: 9}); !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		t.Errorf("a Secret that is gone was updated: %v", err)
	}
}

func TestAForeignSecretIsFoundEvenIfNoCacheHasIt(t *testing.T) {
	w := newWorld(t)
	record := issued(t, 1, "theirs")
	theirs := w.make(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mtls"}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.crt": record.Material[credential.KeyCertificate].Reveal(), "tls.key": record.Material[credential.KeyPrivateKey].Reveal(),
	}})
	opts := w.publishedOptions("app")
	opts.Reader = readerFunc(func(_ context.Context, key client.ObjectKey, _ client.Object) error {
		return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
	})
	store := NewPublished(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetForeign)
	if snapshot.Ledger.Current != nil {
		t.Error("another owner's certificate is taken as ours")
	}
	ours := issued(t, 1, "app")
	_, err := store.Save(t.Context(), Ledger{Current: &ours, LastSeq: 1})
	expectFault(t, err, fault.ClassPermanent, fault.SecretConflict)
	opts.DeletionPolicy = v1alpha1.DeletionDelete
	if err := NewPublished(opts).Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.secret(t, "mtls"); got == nil || got.ResourceVersion != theirs.ResourceVersion {
		t.Error("it was changed")
	}

	// A store that assumes the Secret is new finds it when it writes.
	opts.Fresh = true
	first := NewPublished(opts)
	expectTarget(t, must[Snapshot](t)(first.Load(t.Context())), rotation.TargetMissing)
	if _, err := first.Save(t.Context(), Ledger{Current: &ours, LastSeq: 1}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("writing over it returns %v, want AlreadyExists", err)
	}
	if got := w.secret(t, "mtls"); got == nil || got.ResourceVersion != theirs.ResourceVersion {
		t.Error("it was changed by a store that assumed it did not exist")
	}
	opts.Fresh = false

	// Once it is handed over, its certificate is kept until something requires another one.
	w.edit(t, "mtls", func(s *corev1.Secret) {
		s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "ClientIdentity/app"}
	})
	snapshot = must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetDiffers)
	if snapshot.Ledger.Current == nil || snapshot.Ledger.Current.Fingerprint != "theirs" {
		t.Errorf("current is %+v", snapshot.Ledger.Current)
	}
	snapshot = must[Snapshot](t)(store.Publish(t.Context()))
	expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	if !strings.Contains(snapshot.Adopted, "was not created by rekey") {
		t.Errorf("adopted: %q", snapshot.Adopted)
	}
	if !bytes.Equal(w.secret(t, "mtls").Data["tls.key"], record.Material[credential.KeyPrivateKey].Reveal()) {
		t.Error("it has another key")
	}
}

// The real informer cache, with the label selector and the transform that the manager uses.
func TestThroughTheRealCacheNothingIsReadAndNoKeyIsKept(t *testing.T) {
	w := newWorld(t)
	informers, err := cache.New(apiServer(t), cache.Options{
		Scheme: clientgoscheme.Scheme, DefaultNamespaces: map[string]cache.Config{w.namespace: {}},
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}),
			Transform: StripMaterial,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- informers.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	opts := w.publishedOptions("app")
	record := issued(t, 1, "app")
	w.issue(t, opts, record)
	key := record.Material[credential.KeyPrivateKey].Reveal()
	// What kubectl apply leaves behind contains the data a second time.
	applied := `{"data":{"tls.key":"` + base64.StdEncoding.EncodeToString(key) + `"}}`
	w.edit(t, "mtls", func(s *corev1.Secret) { s.Annotations[annotationApplied] = applied })
	w.published(t, w.ledgerOptions("orders"))

	opts.Reader = informers
	cached := &corev1.Secret{}
	g := gomega.NewWithT(t)
	g.Eventually(func() error { return informers.Get(ctx, opts.secretKey(), cached) }, 10*time.Second).Should(gomega.Succeed())
	g.Eventually(func() string {
		_ = informers.Get(ctx, opts.secretKey(), cached)
		return cached.Annotations[annotationApplied]
	}, 10*time.Second).ShouldNot(gomega.BeEmpty())
	all := &corev1.SecretList{}
	g.Eventually(func() int {
		_ = informers.List(ctx, all)
		return len(all.Items)
	}, 10*time.Second).Should(gomega.Equal(3))
	for i := range all.Items {
		expectNone(t, &all.Items[i], key, []byte(canary), []byte(base64.StdEncoding.EncodeToString(key)))
	}

	var reads atomic.Int64
	opts.Live = readerFunc(func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
		reads.Add(1)
		return w.Get(ctx, key, obj)
	})
	store := NewPublished(opts)
	snapshot := must[Snapshot](t)(store.Load(ctx))
	expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	w.expectWrites(t, 0, "nothing due", func() {
		must[Snapshot](t)(store.Save(ctx, snapshot.Ledger))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	})
	if reads.Load() > 0 {
		t.Errorf("%d live reads with nothing due", reads.Load())
	}
	renewed := issued(t, 2, "app")
	w.expectWrites(t, 1, "a renewal from the cached copy", func() {
		expectTarget(t, must[Snapshot](t)(store.Save(ctx, Ledger{Current: &renewed, LastSeq: 2})), rotation.TargetShowsCurrent)
	})
	got := w.secret(t, "mtls")
	if !bytes.Equal(got.Data["tls.key"], renewed.Material[credential.KeyPrivateKey].Reveal()) || got.Annotations[annotationApplied] != applied {
		t.Error("the renewal lost something that the cache does not hold")
	}
}
