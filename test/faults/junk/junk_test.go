// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package junk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/world"
)

const (
	// limit of the memory in the shipped Deployment, and how much more than before may stay.
	limit, more = 512 << 10, 64 << 10 // KiB
	mebibyte    = 1 << 20
	// together as many are made at once.
	together = 8
)

// sized gives the number for the size that is asked for.
func sized(short, full int) int {
	if os.Getenv("REKEY_SIZE") == "full" {
		return full
	}
	return short
}

// scene is a namespace of a tenant who may write Secrets.
type scene struct {
	*testing.T
	client    client.Client
	namespace string
	issued    int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{T: t}
	if s.client, err = client.New(world.APIServer(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "junk-"}}
	if err := s.client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	s.namespace = namespace.Name
	// The next test begins without what this one made.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
		defer cancel()
		for _, o := range []client.Object{&v1alpha1.ClientIdentity{}, &v1alpha1.CertificateAuthority{}, &corev1.Secret{}} {
			// To delete hundreds of MiB in one request takes the API server longer than it gives itself: it goes on where it was.
			for err := errors.New("not asked yet"); err != nil && ctx.Err() == nil; {
				err = s.client.DeleteAllOf(ctx, o, client.InNamespace(s.namespace))
			}
		}
	})
	s.create(&v1alpha1.CertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: "internal"}, Spec: v1alpha1.AuthoritySpec{
		Managed:    &v1alpha1.ManagedAuthority{CommonName: "Junk CA", KeyAlgorithm: "ECDSA-P256", Lifetime: metav1.Duration{Duration: 1000 * time.Hour}},
		SecretName: "internal-ca", Constraints: v1alpha1.Constraints{MaxLifetime: metav1.Duration{Duration: 720 * time.Hour}, CommonNames: []v1alpha1.NamePattern{"*"}}}})
	return s
}

func (s *scene) create(o client.Object) {
	s.Helper()
	o.SetNamespace(s.namespace)
	if err := s.client.Create(s.Context(), o); err != nil {
		s.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

// issues wants one more identity to come to its certificate.
func (s *scene) issues(when string) {
	s.Helper()
	s.issued++
	identity := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("identity-", s.issued)}, Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
		AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"}, CommonName: "app", Lifetime: metav1.Duration{Duration: 24 * time.Hour},
		SecretName: v1alpha1.ObjectName(fmt.Sprintf("identity-%d-mtls", s.issued))}}}
	s.create(identity)
	s.ready(identity, when)
}

// ready waits until an identity is Ready.
func (s *scene) ready(identity *v1alpha1.ClientIdentity, when string) {
	s.Helper()
	await(s.T, time.Minute, fmt.Sprintf("%s: %s", when, identity.Name), func(ctx context.Context) error {
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(identity), identity); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(identity.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Errorf("not Ready: %+v", identity.Status.Conditions)
		}
		return nil
	})
}

// undisturbed wants all identities but those of the flood to be Ready still, and to have the certificate that they had.
func (s *scene) undisturbed(when string, before map[string]int64) {
	s.Helper()
	var list v1alpha1.ClientIdentityList
	if err := s.client.List(s.Context(), &list, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	for i := range list.Items {
		identity := &list.Items[i]
		if !strings.HasPrefix(identity.Name, "identity-") {
			continue
		}
		s.ready(identity, when)
		if was, known := before[identity.Name]; known && was != identity.Status.Revision {
			s.Errorf("%s: %s has revision %d now, and had %d", when, identity.Name, identity.Status.Revision, was)
		}
		before[identity.Name] = identity.Status.Revision
	}
}

// form is what a Secret of somebody else looks like, filled up to about size bytes.
type form struct {
	name string
	make func(secret *corev1.Secret, size int)
}

func text(size int) string { return strings.Repeat("x", size) }

func filled(size int) []byte { return bytes.Repeat([]byte("x"), size) }

// pems is a value that looks like certificates all the way.
func pems(size int) []byte {
	one := []byte("-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUXxVq\n-----END CERTIFICATE-----\n")
	return bytes.Repeat(one, max(1, size/len(one)))
}

// owned says whom a Secret belongs to, as rekey would.
func owned(secret *corev1.Secret, owner, revision string) {
	secret.Annotations = map[string]string{v1alpha1.AnnotationOwner: owner, v1alpha1.AnnotationRevision: revision, v1alpha1.AnnotationOwnerUID: "00000000-0000-4000-8000-000000000000"}
}

// forms that fit into one Secret however large it may be, and those whose part that grows is limited by Kubernetes.
var forms = []form{
	{"a certificate of nobody", func(o *corev1.Secret, size int) {
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(size / 2), "tls.key": []byte("key"), "ca.crt": pems(size / 2)}
	}},
	{"a certificate of an identity that names another Secret", func(o *corev1.Secret, size int) {
		owned(o, "ClientIdentity/identity-1", "9007199254740992")
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(size / 2), "tls.key": []byte("key"), "ca.crt": filled(size / 2)}
	}},
	{"values below what is read", func(o *corev1.Secret, size int) {
		owned(o, "ServerIdentity/nobody", "1")
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(min(size/2, 200<<10)), "tls.key": filled(max(1, size-400<<10)), "ca.crt": pems(min(size/2, 200<<10))}
	}},
	{"a ledger of nobody", func(o *corev1.Secret, size int) {
		owned(o, "DatabaseCredential/nobody", "999999999999999999")
		o.Type, o.Data = v1alpha1.SecretTypeLedger, map[string][]byte{"version": []byte("1"), "state": []byte(`{"lastSeq":9007199254740992}`), "current": filled(size)}
	}},
	{"many keys", func(o *corev1.Secret, size int) {
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": {}, "tls.key": {}}
		for i := range size / 300 {
			o.Data[fmt.Sprintf("%s-%06d", text(200), i)] = []byte("x")
		}
	}},
	{"annotations", func(o *corev1.Secret, size int) {
		owned(o, "ClientIdentity/identity-1", "18446744073709551616")
		o.Annotations["note"] = text(min(size, 200<<10))
		o.Data = map[string][]byte{"x": filled(max(0, size-200<<10))}
	}},
	{"labels", func(o *corev1.Secret, size int) {
		for i := range min(size, 700<<10) / 120 {
			o.Labels[fmt.Sprintf("l%s-%06d", text(40), i)] = text(60)
		}
	}},
	{"an owner with a long name", func(o *corev1.Secret, size int) {
		owned(o, "ClientIdentity/"+text(min(size, 200<<10)), "1")
	}},
	{"a long type", func(o *corev1.Secret, size int) { o.Type = corev1.SecretType(text(size)) }},
}

// namedForms are those of Secrets that identities name, whose makers may make identities too: no two hold the same.
var namedForms = []form{
	{"different certificates", func(o *corev1.Secret, size int) {
		value := append([]byte(o.Name+"\n"), pems(min(size/2, 250<<10))...)
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": value, "tls.key": []byte("key"), "ca.crt": value}
	}},
	{"different bundles", func(o *corev1.Secret, size int) {
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": {}, "tls.key": {}, "ca.crt": append([]byte(o.Name+"\n"), pems(min(size, 250<<10))...)}
	}},
	{"annotations", func(o *corev1.Secret, size int) {
		owned(o, "ClientIdentity/"+o.Name, "1")
		o.Annotations["note"] = o.Name + text(min(size, 250<<10))
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": {}, "tls.key": {}}
	}},
	{"labels", func(o *corev1.Secret, size int) {
		for i := range min(size, 700<<10) / 120 {
			o.Labels[fmt.Sprintf("l%s-%06d", text(40), i)] = text(60)
		}
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": {}, "tls.key": {}}
	}},
}

// naming makes an identity that names the Secret.
func (s *scene) naming(secret string) error {
	return s.client.Create(s.Context(), &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: secret}, Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
		AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"}, CommonName: "junk", Lifetime: metav1.Duration{Duration: 24 * time.Hour}, SecretName: v1alpha1.ObjectName(secret)}}})
}

// flood makes n Secrets of about size bytes, and tells how many of each form there are. Where named is true an identity names
// each of them: rekey leaves those alone that it did not make, and makes the others anew.
func (s *scene) flood(n, size int, named bool) {
	s.Helper()
	var wait sync.WaitGroup
	jobs, counts, forms := make(chan int), map[string]int{}, forms
	if named {
		forms = namedForms
	}
	for range together {
		wait.Go(func() {
			for i := range jobs {
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: fmt.Sprintf("junk-%d-%06d", size, i),
					Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelKind: "ClientIdentity"}}}
				forms[i%len(forms)].make(secret, size)
				err := s.client.Create(s.Context(), secret)
				if err == nil && named {
					err = s.naming(secret.Name)
				}
				if err != nil {
					s.Errorf("making junk (%s): %v", forms[i%len(forms)].name, err)
				}
			}
		})
	}
	for i := range n {
		counts[forms[i%len(forms)].name]++
		jobs <- i
	}
	close(jobs)
	wait.Wait()
	told, err := json.Marshal(counts)
	s.Logf("%d Secrets of about %d bytes: %s (%v)", n, size, told, err)
}

// TestSecretsOfOthersDoNotFillTheMemory floods a cluster with Secrets that carry our labels, while the operator works and before
// it starts. It stays below its limit, comes back to what it had, and goes on issuing.
func TestSecretsOfOthersDoNotFillTheMemory(t *testing.T) {
	for name, flood := range map[string]struct {
		n, size int
		named   bool
	}{
		"many small ones":                       {sized(2000, 10_000), 1000, false},
		"few large ones":                        {sized(160, 600), mebibyte - 40<<10, false},
		"few large ones that an identity names": {sized(300, 900), mebibyte - 40<<10, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			o := startOperator(t)
			s.issues("before")
			revisions := map[string]int64{}
			s.undisturbed("before", revisions)
			before := o.settled()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.flood(flood.n, flood.size, flood.named)
			}()
			for flooding := true; flooding; {
				s.issues("while the junk is made")
				select {
				case <-done:
					flooding = false
				case <-time.After(time.Second):
				}
			}
			o.judge("while it watched", before)
			s.undisturbed("after the flood", revisions)
			// Killed for its memory at the start, it would be killed at every start.
			o.stop()
			o = startOperator(t)
			s.issues("after a start amid the junk")
			o.judge("at its start", before)
			s.undisturbed("after a start", revisions)
		})
	}
}

// TestForgedRevisionsStopNothing puts numbers onto the Secret of an identity that no version can have.
func TestForgedRevisionsStopNothing(t *testing.T) {
	s := newScene(t)
	startOperator(t)
	s.issues("before")
	identity := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "identity-1"}}
	for _, forged := range []string{"9007199254740992", "9223372036854775807", "18446744073709551616", "-1"} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "identity-1-mtls"}}
		if err := s.client.Get(s.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
			t.Fatal(err)
		}
		kind, _, known := secretstore.OwnerOf(secret)
		if !known || kind != "ClientIdentity" {
			t.Fatalf("the Secret belongs to %q", kind)
		}
		serial := identity.Status.SerialNumber
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRevision, forged))
		if err := s.client.Patch(s.Context(), secret, patch); err != nil {
			t.Fatal(err)
		}
		request := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRotate, "after "+forged))
		if err := s.client.Patch(s.Context(), identity, request); err != nil {
			t.Fatal(err)
		}
		await(t, time.Minute, fmt.Sprintf("renewing after revision %q", forged), func(ctx context.Context) error {
			if err := s.client.Get(ctx, client.ObjectKeyFromObject(identity), identity); err != nil {
				return err
			}
			if !meta.IsStatusConditionTrue(identity.Status.Conditions, v1alpha1.ConditionReady) || identity.Status.SerialNumber == serial {
				return errors.New("not renewed")
			}
			return nil
		})
	}
}
