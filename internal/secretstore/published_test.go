// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
