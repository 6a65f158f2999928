// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/rotation"
)

// salted encodes keystores as real ones are: the same content has other bytes each time. encoded counts how often.
func salted(password string, size int, encoded *int) *Keystores {
	keys := []string{"keystore.p12", "truststore.p12"}
	return &Keystores{
		Keys: keys,
		Encode: func(map[string][]byte) (map[string][]byte, error) {
			*encoded++
			out := map[string][]byte{}
			for _, key := range keys {
				out[key] = make([]byte, size)
				_, _ = rand.Read(out[key])
			}
			return out, nil
		},
		Seal: func(data map[string][]byte) (string, error) {
			h := sha256.New()
			for _, part := range [][]byte{[]byte(password), data["tls.crt"], data["tls.key"], data["ca.crt"], data[keys[0]], data[keys[1]]} {
				sum := sha256.Sum256(part)
				h.Write(sum[:])
			}
			return hex.EncodeToString(h.Sum(nil)), nil
		},
	}
}

func unknown() *Keystores {
	return &Keystores{Keys: []string{"keystore.p12", "truststore.p12"}, Unknown: errors.New("the password is missing")}
}

// publish loads and publishes as one reconcile does, and returns what the store holds then.
func (w world) publish(t *testing.T, keystores *Keystores) Snapshot {
	t.Helper()
	opts := w.publishedOptions("app")
	opts.Keystores = keystores
	store := NewPublished(opts)
	snapshot := must[Snapshot](t)(store.Load(t.Context()))
	if snapshot.Target == rotation.TargetDiffers {
		snapshot = must[Snapshot](t)(store.Publish(t.Context()))
	}
	return snapshot
}

func (w world) issueWith(t *testing.T, keystores *Keystores, record Record) {
	t.Helper()
	opts := w.publishedOptions("app")
	opts.Keystores = keystores
	w.issue(t, opts, record)
}

func TestKeystoresAreWrittenOnceAndKeptWhileTheyFit(t *testing.T) {
	w, encoded := newWorld(t), 0
	record := issued(t, 3, "app")
	w.expectWrites(t, 1, "issuing", func() { w.issueWith(t, salted("one", 100, &encoded), record) })
	before := w.secret(t, "mtls")
	if encoded != 1 || len(before.Data["keystore.p12"]) != 100 {
		t.Fatalf("encoded %d times, %d bytes", encoded, len(before.Data["keystore.p12"]))
	}
	w.expectWrites(t, 0, "reconciling again", func() {
		for range 3 {
			snapshot := w.publish(t, salted("one", 100, &encoded))
			expectTarget(t, snapshot, rotation.TargetShowsCurrent)
			want := KeystoreVersion{3, stored(t, record).NotAfter}
			if diff := cmp.Diff(want, snapshot.Keystores); diff != "" {
				t.Error(diff)
			}
		}
	})
	if encoded != 1 {
		t.Errorf("encoded %d times, want 1", encoded)
	}
	password := "one"
	for name, spoil := range map[string]func(*corev1.Secret){
		"a file is edited":  func(s *corev1.Secret) { s.Data["keystore.p12"] = []byte(canary) },
		"a file is missing": func(s *corev1.Secret) { delete(s.Data, "truststore.p12") },
		"two files change places": func(s *corev1.Secret) {
			s.Data["keystore.p12"], s.Data["truststore.p12"] = s.Data["truststore.p12"], s.Data["keystore.p12"]
		},
		"the record is missing": func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationKeystores) },
		"the record is damaged": func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationKeystores] = "3 x y" },
		"the time is another one": func(s *corev1.Secret) {
			s.Annotations[v1alpha1.AnnotationKeystores] = "3 2099-01-01T00:00:00Z" + s.Annotations[v1alpha1.AnnotationKeystores][22:]
		},
		"the seal is another one":  func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationKeystores] += "0" },
		"the authority is damaged": func(s *corev1.Secret) { s.Data["ca.crt"] = []byte("x") },
		"the password is new":      func(*corev1.Secret) { password += "!" },
	} {
		w.edit(t, "mtls", spoil)
		count := encoded
		w.expectWrites(t, 1, name, func() { expectTarget(t, w.publish(t, salted(password, 100, &encoded)), rotation.TargetShowsCurrent) })
		after := w.secret(t, "mtls")
		if !bytes.Equal(after.Data["tls.crt"], before.Data["tls.crt"]) || !bytes.Equal(after.Data["tls.key"], before.Data["tls.key"]) {
			t.Errorf("%s: a new certificate was issued", name)
		}
		want := count + 1
		if name == "the authority is damaged" || name == "the time is another one" {
			want = count // what is in the keystores is right
		}
		if encoded != want {
			t.Errorf("%s: encoded %d times, want %d", name, encoded-count, want-count)
		}
		w.expectWrites(t, 0, name+", afterwards", func() { w.publish(t, salted(password, 100, &encoded)) })
	}
}

func TestWithoutTheirPasswordKeystoresStayAndEverythingElseIsRenewed(t *testing.T) {
	w, encoded := newWorld(t), 0
	first, second := issued(t, 1, "app"), issued(t, 2, "app")
	w.issueWith(t, salted("one", 100, &encoded), first)
	before := w.secret(t, "mtls")
	w.expectWrites(t, 0, "the password is missing", func() { expectTarget(t, w.publish(t, unknown()), rotation.TargetShowsCurrent) })
	w.expectWrites(t, 1, "renewing", func() { w.issueWith(t, unknown(), second) })
	renewed := w.secret(t, "mtls")
	if bytes.Equal(renewed.Data["tls.crt"], before.Data["tls.crt"]) || !bytes.Equal(renewed.Data["keystore.p12"], before.Data["keystore.p12"]) {
		t.Error("the certificate is the old one, or the keystore is not")
	}
	if snapshot := w.publish(t, unknown()); snapshot.Keystores.Seq != 1 || !snapshot.Keystores.NotAfter.Equal(stored(t, first).NotAfter) {
		t.Errorf("the keystores count as those of %+v", snapshot.Keystores)
	}
	w.expectWrites(t, 1, "the password is back", func() {
		snapshot := w.publish(t, salted("one", 100, &encoded))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if snapshot.Keystores.Seq != 2 || snapshot.Ledger.Current.Seq != 2 {
			t.Errorf("keystores of %d, certificate %d", snapshot.Keystores.Seq, snapshot.Ledger.Current.Seq)
		}
	})
	w.expectWrites(t, 1, "keystores are no longer wanted", func() { expectTarget(t, w.publish(t, nil), rotation.TargetShowsCurrent) })
	last := w.secret(t, "mtls")
	if _, recorded := last.Annotations[v1alpha1.AnnotationKeystores]; recorded || len(last.Data) != 4 {
		t.Errorf("%d values are left, recorded: %t", len(last.Data), recorded)
	}
}

func TestKeystoresThatWereNeverWrittenAreNotInvented(t *testing.T) {
	w, encoded := newWorld(t), 0
	w.issueWith(t, nil, issued(t, 1, "app"))
	w.expectWrites(t, 0, "wanted, without a password", func() {
		snapshot := w.publish(t, unknown())
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
		if snapshot.Keystores != (KeystoreVersion{}) {
			t.Errorf("keystores of %+v", snapshot.Keystores)
		}
	})
	w.expectWrites(t, 1, "wanted, with a password", func() { w.publish(t, salted("one", 100, &encoded)) })
}

func TestKeystoresThatCannotBeWrittenHoldNothingElseUp(t *testing.T) {
	encoded := 0
	damaged := salted("one", 100, &encoded)
	damaged.Encode = func(map[string][]byte) (map[string][]byte, error) { return nil, errors.New("the chain is damaged") }
	empty := salted("one", 0, &encoded)
	for name, tc := range map[string]struct {
		keystores *Keystores
		want      string
	}{
		"too large for a Secret": {salted("one", 520<<10, &encoded), "bytes long, and Kubernetes stores at most 1048576: remove a format from spec.formats, or shorten the trust anchors of the authority"},
		"not encodable":          {damaged, "the chain is damaged"},
		"empty":                  {empty, "keystore.p12 is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			w, encoded := newWorld(t), 0
			w.issueWith(t, salted("one", 100, &encoded), issued(t, 1, "app"))
			kept := w.secret(t, "mtls").Data["keystore.p12"]
			w.expectWrites(t, 1, "renewing", func() { w.issueWith(t, tc.keystores, issued(t, 2, "app")) })
			if now := w.secret(t, "mtls"); now.Annotations[v1alpha1.AnnotationRevision] != "2" || !bytes.Equal(now.Data["keystore.p12"], kept) {
				t.Error("the certificate was not renewed, or the earlier keystore was lost")
			}
			err := tc.keystores.Failed()
			if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.KeystoreNotWritten || !strings.HasSuffix(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
			w.expectWrites(t, 0, "afterwards", func() { expectTarget(t, w.publish(t, tc.keystores), rotation.TargetShowsCurrent) })
		})
	}
	if (*Keystores)(nil).Failed() != nil {
		t.Error("no keystores failed")
	}
}

func TestTheRecordOfKeystoresIsReadBack(t *testing.T) {
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	want := keystoreRecord{KeystoreVersion{7, at}, "abc"}
	for name, tc := range map[string]struct {
		value string
		want  keystoreRecord
	}{
		"what is written":      {want.String(), want},
		"nothing":              {"", keystoreRecord{}},
		"too few words":        {"7 2027-03-01T12:00:00Z", keystoreRecord{}},
		"too many words":       {want.String() + " more", keystoreRecord{}},
		"no number":            {"x 2027-03-01T12:00:00Z abc", keystoreRecord{}},
		"an impossible number": {"-1 2027-03-01T12:00:00Z abc", keystoreRecord{}},
		"no time":              {"7 tomorrow abc", keystoreRecord{}},
	} {
		secret := &corev1.Secret{}
		secret.Annotations = map[string]string{v1alpha1.AnnotationKeystores: tc.value}
		if got := keystoresOf(secret); got != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if keystoresOf(nil) != (keystoreRecord{}) {
		t.Error("no Secret has a record")
	}
}

func TestACachedSecretShowsWhetherItsDERFilesFit(t *testing.T) {
	record, other := issued(t, 1, "app"), issued(t, 1, "other")
	data := pki.TLSSecretData(record.Material, []pki.Format{pki.DER})
	others := pki.TLSSecretData(other.Material, []pki.Format{pki.DER})
	for name, tc := range map[string]struct {
		change    map[string][]byte
		key, leaf []byte
	}{
		"both fit":                   {nil, placeholderGood, placeholderGood},
		"another key":                {map[string][]byte{"key.der": others["key.der"]}, placeholderWrong, placeholderGood},
		"another leaf":               {map[string][]byte{"tls.der": others["tls.der"]}, placeholderGood, placeholderWrong},
		"another pair in PEM":        {map[string][]byte{"tls.crt": others["tls.crt"], "tls.key": others["tls.key"]}, placeholderWrong, placeholderWrong},
		"a certificate as the key":   {map[string][]byte{"key.der": data["tls.der"]}, placeholderWrong, placeholderGood},
		"a private key as tls.der":   {map[string][]byte{"tls.der": data["key.der"]}, placeholderGood, placeholderWrong},
		"the certificate is not PEM": {map[string][]byte{"tls.crt": []byte("x")}, placeholderWrong, placeholderWrong},
		"a keystore is never judged": {map[string][]byte{"keystore.p12": []byte(canary)}, placeholderGood, placeholderGood},
	} {
		secret := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{}}
		for _, all := range []map[string][]byte{data, tc.change} {
			maps.Copy(secret.Data, all)
		}
		for range 2 {
			must[any](t)(StripMaterial(secret))
			if !bytes.Equal(secret.Data["key.der"], tc.key) || !bytes.Equal(secret.Data["tls.der"], tc.leaf) {
				t.Errorf("%s: key.der fits: %t, tls.der fits: %t", name, bytes.Equal(secret.Data["key.der"], placeholderGood), bytes.Equal(secret.Data["tls.der"], placeholderGood))
			}
			expectNone(t, secret, data["key.der"], others["key.der"], data["tls.key"], []byte(canary))
		}
	}
}
