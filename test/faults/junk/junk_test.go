// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package junk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

const (
	// memoryLimit is the memory limit in the shipped Deployment; slack is how much more than before can remain in use.
	memoryLimit, slack = 512 << 10, 64 << 10 // KiB
	mebibyte           = 1 << 20
	// together is the number of concurrent creations.
	together = 8
)

// scene is a namespace of a tenant who can write Secrets.
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
	// The next test must start without the objects of this one.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
		defer cancel()
		for _, o := range []client.Object{&v1alpha1.ClientIdentity{}, &v1alpha1.CertificateAuthority{}, &corev1.Secret{}} {
			// The API server takes longer than its own timeout to delete hundreds of MiB in one request; the next request
			// continues where that one stopped.
			for err := errors.New("not asked yet"); err != nil && ctx.Err() == nil; {
				err = s.client.DeleteAllOf(ctx, o, client.InNamespace(s.namespace))
			}
		}
	})
	s.create(fixture.Authority())
	return s
}

func (s *scene) create(o client.Object) {
	s.Helper()
	o.SetNamespace(s.namespace)
	if err := s.client.Create(s.Context(), o); err != nil {
		s.Fatalf("creating %T %s: %v", o, o.GetName(), err)
	}
}

// issueAnother creates one more identity and waits for its certificate.
func (s *scene) issueAnother(when string) {
	s.Helper()
	s.issued++
	identity := fixture.ClientIdentity(fmt.Sprint("identity-", s.issued))
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

// checkUndisturbed checks that all identities except those of the flood are still Ready, and have the same certificate as
// before.
func (s *scene) checkUndisturbed(when string, before map[string]int64) {
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
			s.Errorf("%s: %s has revision %d now, want %d", when, identity.Name, identity.Status.Revision, was)
		}
		before[identity.Name] = identity.Status.Revision
	}
}

// form is the shape of another user's Secret, filled up to about size bytes.
type form struct {
	name string
	make func(secret *corev1.Secret, size int)
}

func text(size int) string { return strings.Repeat("x", size) }

func filled(size int) []byte { return bytes.Repeat([]byte("x"), size) }

// pems returns a value that looks like a series of certificates.
func pems(size int) []byte {
	one := []byte("-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUXxVq\n-----END CERTIFICATE-----\n")
	return bytes.Repeat(one, max(1, size/len(one)))
}

// owned records the owner of a Secret in the same way as rekey.
func owned(secret *corev1.Secret, owner, revision string) {
	secret.Annotations = map[string]string{v1alpha1.AnnotationOwner: owner, v1alpha1.AnnotationRevision: revision, v1alpha1.AnnotationOwnerUID: "00000000-0000-4000-8000-000000000000"}
}

// forms are the shapes that fit into one Secret of any size, and those whose growing part Kubernetes limits.
var forms = []form{
	{"a certificate without an owner", func(o *corev1.Secret, size int) {
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(size / 2), "tls.key": []byte("key"), "ca.crt": pems(size / 2)}
	}},
	{"a certificate of an identity that names another Secret", func(o *corev1.Secret, size int) {
		owned(o, "ClientIdentity/identity-1", "9007199254740992")
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(size / 2), "tls.key": []byte("key"), "ca.crt": filled(size / 2)}
	}},
	{"values shorter than what rekey reads", func(o *corev1.Secret, size int) {
		owned(o, "ServerIdentity/nobody", "1")
		o.Type, o.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": pems(min(size/2, 200<<10)), "tls.key": filled(max(1, size-400<<10)), "ca.crt": pems(min(size/2, 200<<10))}
	}},
	{"a ledger without an owner", func(o *corev1.Secret, size int) {
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

// namedForms are the shapes of Secrets that identities name. Their creators can also create identities. All contents differ.
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

// createNaming creates an identity that names the Secret.
func (s *scene) createNaming(secret string) error {
	return s.client.Create(s.Context(), fixture.ClientIdentity(secret, func(i *v1alpha1.ClientIdentity) {
		i.Namespace, i.Spec.CommonName, i.Spec.SecretName = s.namespace, "junk", v1alpha1.ObjectName(secret)
	}))
}

// flood creates n Secrets of about size bytes, and logs how many of each form there are. If named is true, an identity names
// each of them: rekey skips the Secrets that it did not create, and recreates the others.
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
					err = s.createNaming(secret.Name)
				}
				if err != nil {
					s.Errorf("creating junk (%s): %v", forms[i%len(forms)].name, err)
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
	counted, err := json.Marshal(counts)
	s.Logf("%d Secrets of about %d bytes: %s (%v)", n, size, counted, err)
}

// TestOtherUsersSecretsDoNotFillTheMemory floods a cluster with Secrets that carry rekey's labels, while the operator runs and
// before it starts. The operator stays below its limit, returns to its previous memory use, and keeps issuing.
func TestOtherUsersSecretsDoNotFillTheMemory(t *testing.T) {
	for name, flood := range map[string]struct {
		n, size int
		named   bool
	}{
		"many small Secrets":                       {size.Number(2000, 10_000), 1000, false},
		"few large Secrets":                        {size.Number(160, 600), mebibyte - 40<<10, false},
		"few large Secrets that an identity names": {size.Number(300, 900), mebibyte - 40<<10, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			o := startOperator(t)
			s.issueAnother("before")
			revisions := map[string]int64{}
			s.checkUndisturbed("before", revisions)
			before := o.settled()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.flood(flood.n, flood.size, flood.named)
			}()
			for flooding := true; flooding; {
				s.issueAnother("while the junk is created")
				select {
				case <-done:
					flooding = false
				case <-time.After(time.Second):
				}
			}
			o.checkMemory("during the watch", before)
			s.checkUndisturbed("after the flood", revisions)
			// An operator that is killed for its memory at the start would be killed at every start.
			o.stop()
			o = startOperator(t)
			s.issueAnother("after a start among the junk")
			o.checkMemory("at its start", before)
			s.checkUndisturbed("after a start", revisions)
		})
	}
}

// TestForgedRevisionsStopNothing puts revision numbers that no version can have onto an identity's Secret.
func TestForgedRevisionsStopNothing(t *testing.T) {
	s := newScene(t)
	startOperator(t)
	s.issueAnother("before")
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
