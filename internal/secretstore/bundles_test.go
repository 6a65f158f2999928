// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/rotation"
)

// withBundle returns options for an authority with the bundle as ca.crt. lives counts the reads that bypass the cache.
func (w world) withBundle(who string, bundle []byte, lives *int) PublishedOptions {
	opts := w.publishedOptions(who)
	opts.SecretName = who + "-mtls"
	opts.Data = func(current Record) (map[string][]byte, error) {
		return pki.TLSSecretData(current.Material.With(credential.KeyAuthority, bundle), nil), nil
	}
	opts.Reader = stripping(w)
	opts.Live = readerFunc(func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
		*lives++
		return w.Get(ctx, key, obj)
	})
	return opts
}

// TestALargeBundleIsReadOnceForAllIdentities covers the bundle of an organization, which is in the Secret of every identity.
func TestALargeBundleIsReadOnceForAllIdentities(t *testing.T) {
	w, lives := newWorld(t), 0
	bundle := bytes.Repeat([]byte("# the bundle of all\n"), 12_000)
	const identities = 10
	records := map[string]Record{}
	for i := range identities {
		who := fmt.Sprint("app-", i)
		records[who] = issued(t, 7, who)
		w.issue(t, w.withBundle(who, bundle, &lives), records[who])
	}
	lives = 0
	for range 3 {
		for who, record := range records {
			opts := w.withBundle(who, bundle, &lives)
			w.expectWrites(t, 0, "a look at a Secret with a large bundle", func() {
				snapshot := must[Snapshot](t)(NewPublished(opts).Load(t.Context()))
				expectTarget(t, snapshot, rotation.TargetShowsCurrent)
				if current := snapshot.Ledger.Current; current == nil || !bytes.Equal(current.Material[credential.KeyAuthority].Reveal(), bundle) ||
					!bytes.Equal(current.Material[credential.KeyCertificate].Reveal(), record.Material[credential.KeyCertificate].Reveal()) {
					t.Error("the version is not the published one")
				}
			})
		}
	}
	if lives != 1 {
		t.Errorf("%d reads of %d Secrets with one bundle: %d were live, want 1", 3*identities, identities, lives)
	}

	w.edit(t, "app-3-mtls", func(o *corev1.Secret) { o.Data["ca.crt"][0] = '!' })
	store := NewPublished(w.withBundle("app-3", bundle, &lives))
	expectTarget(t, must[Snapshot](t)(store.Load(t.Context())), rotation.TargetDiffers)
	w.expectWrites(t, 1, "repairing a large bundle", func() {
		expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
	})
	if !bytes.Equal(w.secret(t, "app-3-mtls").Data["ca.crt"], bundle) {
		t.Error("the bundle was not repaired")
	}
}

// TestASecretThatIsTooLargeForTheCacheIsReadLive covers data that users added: none of it is lost, and nothing is written.
func TestASecretThatIsTooLargeForTheCacheIsReadLive(t *testing.T) {
	w, lives := newWorld(t), 0
	opts := w.withBundle("app", authorities, &lives)
	record := issued(t, 7, "app")
	w.issue(t, opts, record)
	w.edit(t, "app-mtls", func(o *corev1.Secret) { o.Annotations["note"] = strings.Repeat("x", 200<<10) })
	before := w.secret(t, "app-mtls")
	lives = 0
	w.expectWrites(t, 0, "a Secret with a large annotation", func() {
		store := NewPublished(opts)
		snapshot := must[Snapshot](t)(store.Load(t.Context()))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		expectTarget(t, must[Snapshot](t)(store.Publish(t.Context())), rotation.TargetShowsCurrent)
		if diff := cmp.Diff(stored(t, record), snapshot.Ledger.Current, sameLedger); diff != "" || lives == 0 {
			t.Errorf("read live %d times: %s", lives, diff)
		}
	})
	if diff := cmp.Diff(before, w.secret(t, "app-mtls")); diff != "" {
		t.Error("it was changed")
	}
}

// TestFewLargeBundlesAreHeld covers Secrets that each have a different bundle.
func TestFewLargeBundlesAreHeld(t *testing.T) {
	const most = 16 << 20
	secret := func(i, length int) *corev1.Secret {
		return &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"ca.crt": append(bytes.Repeat([]byte("x"), length-8), fmt.Sprintf("%8d", i)...)}}
	}
	for i := range 1000 {
		one := secret(i, mostRead)
		noteBundle(one)
		want := one.Data["ca.crt"]
		if _, err := StripMaterial(one); err != nil || !isPlaceholder(one.Data["ca.crt"]) {
			t.Fatalf("a large bundle stays in the cache: %v", err)
		}
		if !restore(one) || !bytes.Equal(one.Data["ca.crt"], want) {
			t.Fatalf("bundle %d was forgotten at once", i)
		}
	}
	if held := bundles.Len() * mostRead; held > most {
		t.Errorf("%d bytes are held, want at most %d", held, most)
	}
	first := secret(0, mostRead)
	if _, err := StripMaterial(first); err != nil || restore(first) {
		t.Errorf("the first bundle is held forever: %v", err)
	}
	before := bundles.Len()
	for name, bad := range map[string]*corev1.Secret{
		"too long to be read": secret(1, mostRead+1), "in each Secret": secret(1, mostAuthority),
		"with a private key": {Data: map[string][]byte{"ca.crt": append(bytes.Repeat([]byte("x"), mostAuthority), "-----BEGIN PRIVATE KEY-----"...)}},
	} {
		// A bundle is not held unless the cache names its digest.
		value := bad.Data["ca.crt"]
		noteBundle(bad)
		if _, held := bundles.Get(digestOf(value)); held || bundles.Len() != before {
			t.Errorf("a bundle %s is held", name)
		}
	}
}
