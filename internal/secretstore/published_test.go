// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
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
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/rotation"
)

const backdate = 5 * time.Minute

// parse reads a version from its certificate, as the identities' controller does.
func parse(m credential.Material, _ time.Time) (rotation.Version, error) {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil {
		return rotation.Version{}, err
	}
	issued := chain[0].NotBefore.Add(backdate)
	return rotation.Version{Fingerprint: chain[0].Subject.CommonName, ProposedAt: issued, CommittedAt: issued, NotAfter: chain[0].NotAfter}, nil
}

// authorities is what ca.crt should contain, whatever the Secret holds.
var authorities = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

func (w world) publishedOptions(who string) PublishedOptions {
	return PublishedOptions{
		Options: Options{
			Client: w.Client, Live: w.Client, Owner: owner("ClientIdentity", who), DeletionPolicy: v1alpha1.DeletionRetain,
			Namespace: w.namespace, SecretName: "mtls", SecretType: corev1.SecretTypeTLS,
			Data: func(current Record) (map[string][]byte, error) {
				with := current.Material.With(credential.KeyAuthority, authorities)
				return pki.TLSSecretData(with, []pki.Format{pki.CombinedPEM}), nil
			},
		},
		Reader: w.Client, Parse: parse,
	}
}

// issued returns a current version as the driver commits it.
func issued(t *testing.T, seq int64, name string) Record {
	t.Helper()
	certificate, key := pair(t, newKey(t), name)
	return Record{
		Version: rotation.Version{Seq: seq, Stage: rotation.Current, Fingerprint: name},
		Material: credential.Material{
			credential.KeyCertificate: credential.NewSensitive(certificate), credential.KeyPrivateKey: credential.NewSensitive(key),
		},
	}
}

// stored returns a version as it is read back.
func stored(t *testing.T, record Record) *Record {
	t.Helper()
	version := must[rotation.Version](t)(parse(record.Material, time.Time{}))
	version.Seq, version.Stage, version.PublishedAt = record.Seq, rotation.Current, version.CommittedAt
	return &Record{Version: version, Material: record.Material.With(credential.KeyAuthority, authorities)}
}

func (w world) issue(t *testing.T, opts PublishedOptions, record Record) {
	t.Helper()
	store := NewPublished(opts)
	must[Snapshot](t)(store.Load(t.Context()))
	snapshot := must[Snapshot](t)(store.Save(t.Context(), Ledger{Current: &record, LastSeq: record.Seq}))
	expectTarget(t, snapshot, rotation.TargetShowsCurrent)
}

func TestIssuingIsOneWriteAndARestartNone(t *testing.T) {
	w := newWorld(t)
	opts := w.publishedOptions("app")
	store := NewPublished(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	expectTarget(t, snapshot, rotation.TargetMissing)
	record := issued(t, 1, "app")
	w.expectWrites(t, 0, "a pending version", func() {
		pending := record
		pending.Stage = rotation.Proposed
		snapshot := must[Snapshot](t)(store.Save(t.Context(), Ledger{Pending: &pending, LastSeq: 1, Rotate: Tokens{Seen: "now"}}))
		if snapshot.Ledger.Pending == nil || snapshot.Ledger.LastSeq != 1 || snapshot.Ledger.Rotate.Seen != "now" {
			t.Errorf("the state in memory is lost: %+v", snapshot.Ledger)
		}
	})
	tokens := Tokens{Seen: "now", Honored: "now"}
	want := Ledger{Current: stored(t, record), LastSeq: 1, Rotate: tokens}
	w.expectWrites(t, 1, "issuing", func() {
		snapshot := must[Snapshot](t)(store.Save(t.Context(), Ledger{Current: &record, LastSeq: 1, Rotate: tokens}))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if diff := cmp.Diff(want, snapshot.Ledger, sameLedger); diff != "" {
			t.Error(diff)
		}
	})
	w.expectWrites(t, 0, "a restart", func() {
		again := NewPublished(opts)
		snapshot := must[Snapshot](t)(again.Load(t.Context()))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if diff := cmp.Diff(want, snapshot.Ledger, sameLedger); diff != "" {
			t.Error(diff)
		}
		must[Snapshot](t)(again.Save(t.Context(), snapshot.Ledger))
		must[Snapshot](t)(again.Publish(t.Context()))
	})
	got := w.secret(t, "mtls")
	if diff := cmp.Diff(map[string]string{
		v1alpha1.AnnotationOwner: "ClientIdentity/app", v1alpha1.AnnotationOwnerUID: "uid-of-app", v1alpha1.AnnotationRevision: "1",
		v1alpha1.AnnotationRotateSeen: "now", v1alpha1.AnnotationRotateHonored: "now",
	}, got.Annotations); diff != "" {
		t.Error(diff)
	}
	if len(got.Data) != 4 || !bytes.Equal(got.Data["tls.key"], record.Material[credential.KeyPrivateKey].Reveal()) {
		t.Errorf("the Secret holds %d values", len(got.Data))
	}
}

func TestADamagedCertificateIsNotACurrentVersionAndNumbersContinue(t *testing.T) {
	_, otherKey := pair(t, newKey(t), "other")
	cases := map[string]func(*corev1.Secret){
		"another key":            func(s *corev1.Secret) { s.Data["tls.key"] = otherKey },
		"an empty key":           func(s *corev1.Secret) { s.Data["tls.key"] = nil },
		"half a certificate":     func(s *corev1.Secret) { s.Data["tls.crt"] = s.Data["tls.crt"][:100] },
		"a forged placeholder":   func(s *corev1.Secret) { s.Data["tls.key"] = []byte("rekey-000000000000000000000000-good") },
		"no PEM":                 func(s *corev1.Secret) { s.Data["tls.crt"] = []byte(canary) },
		"a chain without a leaf": func(s *corev1.Secret) { s.Data["tls.crt"] = authorities },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.publishedOptions("app")
			w.issue(t, opts, issued(t, 7, "app"))
			w.edit(t, "mtls", spoil)
			store := NewPublished(opts)
			snapshot := must[Snapshot](t)(store.Load(t.Context()))
			expectTarget(t, snapshot, rotation.TargetDiffers)
			if snapshot.Ledger.Current != nil || snapshot.Ledger.LastSeq != 7 {
				t.Errorf("current %v, last number %d", snapshot.Ledger.Current, snapshot.Ledger.LastSeq)
			}
			record := issued(t, 8, "app")
			w.expectWrites(t, 1, "issuing again", func() {
				snapshot := must[Snapshot](t)(store.Save(t.Context(), Ledger{Current: &record, LastSeq: 8}))
				expectTarget(t, snapshot, rotation.TargetShowsCurrent)
			})
		})
	}
}

func TestAnImpossibleRevisionIsOne(t *testing.T) {
	for _, value := range []string{"", "x", "-3", "9007199254740992", "1099511627777", "9223372036854775807", canary} {
		w := newWorld(t)
		opts := w.publishedOptions("app")
		w.issue(t, opts, issued(t, 7, "app"))
		w.edit(t, "mtls", func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationRevision] = value })
		store := NewPublished(opts)
		snapshot := must[Snapshot](t)(store.Load(t.Context()))
		if got := snapshot.Ledger.Current; got == nil || got.Seq != 1 {
			t.Errorf("%q resulted in %+v", value, got)
		}
		must[Snapshot](t)(store.Publish(t.Context()))
		if got := w.secret(t, "mtls").Annotations[v1alpha1.AnnotationRevision]; got != "1" {
			t.Errorf("%q was repaired to %q", value, got)
		}
	}
}

func TestEverythingExceptTheCertificateIsRepairedWithoutANewKey(t *testing.T) {
	cases := map[string]func(*corev1.Secret){
		"authorities edited":    func(s *corev1.Secret) { s.Data["ca.crt"] = []byte("x") },
		"authorities removed":   func(s *corev1.Secret) { delete(s.Data, "ca.crt") },
		"combined file damaged": func(s *corev1.Secret) { s.Data["tls-combined.pem"] = []byte("x") },
		"combined file removed": func(s *corev1.Secret) { delete(s.Data, "tls-combined.pem") },
		"value added":           func(s *corev1.Secret) { s.Data["more"] = []byte("x") },
		"annotation removed":    func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationOwnerUID) },
		"owner changed by a user": func(s *corev1.Secret) {
			s.Annotations[v1alpha1.AnnotationOwner], s.Annotations[v1alpha1.AnnotationAdopt] = "ClientIdentity/old", "ClientIdentity/app"
		},
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.publishedOptions("app")
			w.issue(t, opts, issued(t, 7, "app"))
			before := w.secret(t, "mtls")
			w.edit(t, "mtls", spoil)
			// As seen through the cache, which has no key.
			opts.Reader = stripping(w)
			store := NewPublished(opts)
			snapshot := must[Snapshot](t)(store.Load(t.Context()))
			expectTarget(t, snapshot, rotation.TargetDiffers)
			if snapshot.Ledger.Current == nil || snapshot.Ledger.Current.Seq != 7 {
				t.Fatalf("the version is lost: %+v", snapshot.Ledger.Current)
			}
			w.expectWrites(t, 1, "repair", func() {
				expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
			})
			if diff := cmp.Diff(before.Data, w.secret(t, "mtls").Data); diff != "" {
				t.Error("the data has changed")
			}
		})
	}
}

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

func TestTokenIsOneWriteThatLeavesTheKeyAlone(t *testing.T) {
	w := newWorld(t)
	opts := w.publishedOptions("app")
	w.issue(t, opts, issued(t, 7, "app"))
	before := w.secret(t, "mtls")
	opts.Reader = stripping(w)
	store := NewPublished(opts)
	ledger := must[Snapshot](t)(store.Load(t.Context())).Ledger
	ledger.Rotate.Seen = "please"
	w.expectWrites(t, 1, "a token", func() {
		snapshot := must[Snapshot](t)(store.Save(t.Context(), ledger))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if snapshot.Ledger.Rotate.Seen != "please" {
			t.Error("the token is lost")
		}
	})
	got := w.secret(t, "mtls")
	if got.Annotations[v1alpha1.AnnotationRotateSeen] != "please" {
		t.Error("the token is not on the Secret")
	}
	if diff := cmp.Diff(before.Data, got.Data); diff != "" {
		t.Error("the data was changed")
	}
	// The annotation was removed from the object, and so was the token from the ledger.
	ledger.Rotate = Tokens{}
	must[Snapshot](t)(store.Save(t.Context(), ledger))
	if _, there := w.secret(t, "mtls").Annotations[v1alpha1.AnnotationRotateSeen]; there {
		t.Error("the token is still there")
	}
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

func TestWhatCannotBeReadBackIsNotPublished(t *testing.T) {
	w := newWorld(t)
	store := NewPublished(w.publishedOptions("app"))
	must[Snapshot](t)(store.Load(t.Context()))
	good, other := issued(t, 1, "app"), issued(t, 1, "other")
	mixed := good
	mixed.Material = good.Material.With(credential.KeyPrivateKey, other.Material[credential.KeyPrivateKey].Reveal())
	keyless := good
	keyless.Material = good.Material.With(credential.KeyPrivateKey, nil)
	for name, record := range map[string]Record{"another key": mixed, "no key": keyless} {
		w.expectWrites(t, 0, name, func() {
			_, err := store.Save(t.Context(), Ledger{Current: &record, LastSeq: 1})
			expectFault(t, err, fault.ClassPermanent, fault.CertificateInvalid)
		})
	}
	store.opts.Parse = func(credential.Material, time.Time) (rotation.Version, error) {
		return rotation.Version{}, errors.New("a leaf from the future")
	}
	w.expectWrites(t, 0, "a certificate that the controller refuses", func() {
		_, err := store.Save(t.Context(), Ledger{Current: &good, LastSeq: 1})
		expectFault(t, err, fault.ClassPermanent, fault.CertificateInvalid)
	})
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

func TestAnImmutableSecretIsReported(t *testing.T) {
	yes := true
	w := newWorld(t)
	opts := w.publishedOptions("app")
	w.issue(t, opts, issued(t, 1, "app"))
	w.edit(t, "mtls", func(s *corev1.Secret) { s.Immutable = &yes })
	for name, reader := range map[string]client.Reader{"live": w.Client, "cached": stripping(w)} {
		opts.Reader = reader
		store := NewPublished(opts)
		expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), rotation.TargetShowsCurrent)
		record := issued(t, 2, "app")
		w.expectWrites(t, 0, name, func() {
			_, err := store.Save(t.Context(), Ledger{Current: &record, LastSeq: 2})
			expectFault(t, err, fault.ClassPermanent, fault.SecretConflict)
			if !strings.Contains(err.Error(), "kubectl -n "+w.namespace+" delete secret mtls") {
				t.Error(err)
			}
		})
	}
}

func TestACertificateIsWithdrawnByItsDeletionPolicy(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionDelete, v1alpha1.DeletionRetain} {
		w := newWorld(t)
		opts := w.publishedOptions("app")
		opts.DeletionPolicy = policy
		w.issue(t, opts, issued(t, 1, "app"))
		got := w.secret(t, "mtls")
		if owned := metav1.GetControllerOf(got) != nil; owned != (policy == v1alpha1.DeletionDelete) {
			t.Errorf("with %s the owners are %v", policy, got.OwnerReferences)
		}
		for range 2 {
			if err := NewPublished(opts).Withdraw(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.secret(t, "mtls"); (got == nil) != (policy == v1alpha1.DeletionDelete) {
			t.Errorf("with %s the Secret is %v", policy, got != nil)
		}
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
