// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// someKinds are kinds for which the cache keeps a Secret.
var someKinds = Kinds{
	{Name: "ClientIdentity", New: func() v1alpha1.Object { return &v1alpha1.ClientIdentity{} }, CachedSecret: namedSecret, StatusOnly: true},
	{Name: "ServerIdentity", New: func() v1alpha1.Object { return &v1alpha1.ServerIdentity{} }, CachedSecret: namedSecret, StatusOnly: true},
}

func namedSecret(o v1alpha1.Object) string {
	return string(o.(v1alpha1.IdentityObject).GetIdentitySpec().SecretName)
}

// named returns an identity that names a Secret, as passed to the cache.
func named(namespace, secret string) *v1alpha1.ClientIdentity {
	return &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app", UID: types.UID("uid of " + namespace + "/" + secret)},
		Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{SecretName: v1alpha1.ObjectName(secret)}}}
}

func labeled(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}},
		Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": []byte("public"), "tls.key": []byte("private"), "ca.crt": bytes.Repeat([]byte("x"), 1000)}}
}

// TestTheCacheHoldsWhatAnIdentityNamesAndNothingElse covers every owner that a Secret may claim.
func TestTheCacheHoldsWhatAnIdentityNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	c := newTransforms(someKinds)
	held := func(namespace, name, owner string) bool {
		secret := labeled(namespace, name)
		secret.Annotations = map[string]string{v1alpha1.AnnotationOwner: owner}
		out, err := c.secret(secret)
		if err != nil {
			t.Fatal(err)
		}
		if string(out.(*corev1.Secret).Data["tls.key"]) == "private" {
			t.Fatal("the cache holds a key")
		}
		return !secretstore.LeftOut(out.(*corev1.Secret))
	}
	identity := named("shop", "app-mtls")
	if held("shop", "app-mtls", "ClientIdentity/app") {
		t.Error("a Secret that no identity names stays")
	}
	if _, err := c.object(identity.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"ClientIdentity/app", "ServerIdentity/other", ""} {
		if !held("shop", "app-mtls", owner) {
			t.Errorf("the Secret that an identity names is left out if its claimed owner is %q", owner)
		}
		for _, at := range [][2]string{{"shop", "other-mtls"}, {"other", "app-mtls"}, {"shopapp-mtls", ""}} {
			if held(at[0], at[1], owner) {
				t.Errorf("Secret %s/%s stays in the cache", at[0], at[1])
			}
		}
	}
	c.expected.forget(toolscache.DeletedFinalStateUnknown{Key: "shop/app", Obj: identity})
	if held("shop", "app-mtls", "ClientIdentity/app") || len(c.expected.held) != 0 {
		t.Errorf("what a deleted identity named stays: %d names are held", len(c.expected.held))
	}
}

// namer returns an identity with a UID that names a Secret.
func namer(uid, secret string) *v1alpha1.ClientIdentity {
	out := named("shop", secret)
	out.UID = types.UID(uid)
	return out
}

func TestASecretIsExpectedAsLongAsAnyIdentityNamesIt(t *testing.T) {
	t.Parallel()
	// As the cache reports them: a state of an identity is noted when it arrives, and a deletion is handled some time later.
	for name, tc := range map[string]struct {
		happens func(e *expectedSecrets)
		want    []string
	}{
		"one of two identities is deleted": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("2", "a"))
			e.forget(namer("1", "a"))
		}, []string{"a"}},
		"both are": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("2", "a"))
			e.forget(namer("1", "a"))
			e.forget(namer("2", "a"))
		}, nil},
		"an identity is recreated before its deletion is handled": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("1", "a"))
			e.note(namer("2", "a"))
			e.forget(namer("1", "a"))
		}, []string{"a"}},
		"a deletion is handled twice": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("2", "a"))
			e.forget(namer("1", "a"))
			e.forget(toolscache.DeletedFinalStateUnknown{Key: "shop/app", Obj: namer("1", "a")})
		}, []string{"a"}},
		"an identity names another Secret": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("1", "b"))
		}, []string{"b"}},
		"an identity names another Secret, and is deleted": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("1", "b"))
			e.forget(namer("1", "a"))
		}, nil},
		"no watch reported the deletion": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.note(namer("2", "b"))
			e.replaced(namer("1", "a"), namer("2", "b"))
		}, []string{"b"}},
		"an identity is changed": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.replaced(namer("1", "a"), namer("1", "a"))
		}, []string{"a"}},
		"something else is deleted": {func(e *expectedSecrets) {
			e.note(namer("1", "a"))
			e.forget(labeled("shop", "a"))
			e.forget("shop/a")
		}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExpectedSecrets(someKinds)
			tc.happens(e)
			for _, secret := range []string{"a", "b"} {
				if got, want := e.is(labeled("shop", secret)), slices.Contains(tc.want, secret); got != want {
					t.Errorf("Secret %s is expected: %v, want %v", secret, got, want)
				}
			}
			if len(e.held) != len(tc.want) || len(e.names) != len(tc.want) {
				t.Errorf("%d Secrets of %d identities are remembered, want %d", len(e.held), len(e.names), len(tc.want))
			}
		})
	}
}

// Identities of two kinds come and go while Secrets are looked up, in more goroutines than there are informers.
func TestWhatIsExpectedIsExactWhateverHappensAtOnce(t *testing.T) {
	t.Parallel()
	e := newExpectedSecrets(someKinds)
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for i := range 500 {
				identity := namer(fmt.Sprint(n, "-", i), "shared")
				e.note(identity)
				if !e.is(labeled("shop", "shared")) {
					t.Error("a Secret is not expected although an identity names it")
				}
				if i%2 == 0 || n > 0 {
					e.forget(identity)
				}
			}
		})
	}
	all.Wait()
	if len(e.held) != 1 || len(e.names) != 250 {
		t.Errorf("%d Secrets of %d identities are remembered, want 1 of 250", len(e.held), len(e.names))
	}
	for i := range 500 {
		if i%2 == 1 {
			e.forget(namer(fmt.Sprint(0, "-", i), "shared"))
		}
	}
	if len(e.held) != 0 || len(e.names) != 0 || e.is(labeled("shop", "shared")) {
		t.Errorf("%d Secrets of %d identities are remembered, want none", len(e.held), len(e.names))
	}
}

func TestTheCacheHoldsNothingOfAnIdentityThatIsNotRead(t *testing.T) {
	t.Parallel()
	identity := named("shop", "app-mtls")
	identity.Labels = map[string]string{"team": strings.Repeat("x", 63)}
	identity.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: strings.Repeat("x", 200<<10), v1alpha1.AnnotationRotate: "now"}
	out, err := newTransforms(someKinds).object(identity)
	if err != nil {
		t.Fatal(err)
	}
	got := out.(*v1alpha1.ClientIdentity)
	if len(got.Labels) > 0 || len(got.Annotations) != 1 || got.Annotations[v1alpha1.AnnotationRotate] != "now" {
		t.Errorf("held are the labels %v and %d annotations", got.Labels, len(got.Annotations))
	}
}

// TestOneBundleOfAllIdentitiesIsHeldOnce covers an authority whose ca.crt is a corporate bundle.
func TestOneBundleOfAllIdentitiesIsHeldOnce(t *testing.T) {
	t.Parallel()
	c := newTransforms(someKinds)
	hold := func(i int, bundle []byte) []byte {
		name := fmt.Sprint("app-", i)
		c.expected.note(named("shop", name))
		secret := labeled("shop", name)
		secret.Data["ca.crt"] = bytes.Clone(bundle)
		out, err := c.secret(secret)
		if err != nil {
			t.Fatal(err)
		}
		return out.(*corev1.Secret).Data["ca.crt"]
	}
	bundle := bytes.Repeat([]byte("b"), longestBytes)
	if one, two := hold(1, bundle), hold(2, bundle); &one[0] != &two[0] || !bytes.Equal(one, bundle) {
		t.Error("two Secrets hold the same bundle twice")
	}
	kept := 0
	for i := range 600 {
		large := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 120<<10)
		kept += len(hold(i, large))
	}
	if kept > 600*100 {
		t.Errorf("of 600 different bundles the cache holds %d bytes", kept)
	}
}

// pagedSecrets is an API server that returns pages.
type pagedSecrets struct {
	n, most, asked int
	fails          error
}

func (p *pagedSecrets) ListWithContext(_ context.Context, options metav1.ListOptions) (runtime.Object, error) {
	p.asked++
	if p.fails != nil && p.asked > 1 {
		return nil, p.fails
	}
	if options.ResourceVersion == "0" || options.Limit <= 0 {
		options.Limit = int64(p.n) // like the API server
	}
	begin := 0
	if options.Continue != "" {
		if _, err := fmt.Sscan(options.Continue, &begin); err != nil {
			return nil, err
		}
	}
	out := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "42"}}
	for i := begin; i < p.n && int64(len(out.Items)) < options.Limit; i++ {
		out.Items = append(out.Items, *labeled("shop", fmt.Sprint("secret-", i)))
	}
	if end := begin + len(out.Items); end < p.n {
		out.Continue = fmt.Sprint(end)
	}
	p.most = max(p.most, len(out.Items))
	return out, nil
}

func (p *pagedSecrets) List(options metav1.ListOptions) (runtime.Object, error) {
	return p.ListWithContext(context.Background(), options)
}

func (*pagedSecrets) WatchWithContext(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewFake(), nil
}

func (p *pagedSecrets) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return p.WatchWithContext(context.Background(), options)
}

// TestSecretsAreNeverListedInOnePiece covers an API server that cannot stream a list.
func TestSecretsAreNeverListedInOnePiece(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0", "", "17"} {
		e, server := newExpectedSecrets(someKinds), &pagedSecrets{n: 10*secretsPage + 1}
		e.note(named("shop", "secret-100"))
		// The request of a reflector.
		answer, err := e.secrets(server).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: version, Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		list := answer.(*corev1.SecretList)
		if len(list.Items) != server.n || list.Continue != "" || list.ResourceVersion != "42" {
			t.Errorf("version %q: %d of %d Secrets, to be continued with %q, version %q", version, len(list.Items), server.n, list.Continue, list.ResourceVersion)
		}
		if server.most > secretsPage || server.asked != 11 {
			t.Errorf("version %q: %d Secrets in one answer of %d", version, server.most, server.asked)
		}
		for i := range list.Items {
			if secret := &list.Items[i]; secretstore.LeftOut(secret) != (secret.Name != "secret-100") || string(secret.Data["tls.key"]) == "private" {
				t.Errorf("version %q: of %s the keys %d are held", version, secret.Name, len(secret.Data))
			}
		}
	}
	gone := errors.New("the continue parameter is too old")
	if _, err := newExpectedSecrets(someKinds).secrets(&pagedSecrets{n: 100, fails: gone}).ListWithContext(t.Context(), metav1.ListOptions{}); !errors.Is(err, gone) {
		t.Errorf("a list that broke off: %v", err)
	}
}
