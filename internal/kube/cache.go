// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
)

// CacheOptions hold in memory what is ours and no more: of Secrets only those that rekey created, and of these nothing that
// is secret. With namespaces, Secrets are listed in those and in the operator's only. What rights says may not be listed
// holds nothing up.
func CacheOptions(kinds Kinds, namespaces []string, operatorNamespace string, rights *access.Rights) cache.Options {
	kept := newTransforms(kinds)
	out := cache.Options{
		NewInformer:      kept.expected.informers(toolscache.NewSharedIndexInformer),
		DefaultTransform: kept.object,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}),
				Transform: kept.secret,
			},
			&corev1.Namespace{}: {Transform: stripNamespace},
		},
	}
	if rights != nil {
		out.NewInformer = kept.expected.informers(rights.NewInformer)
	}
	if len(namespaces) == 0 {
		return out
	}
	out.DefaultNamespaces = map[string]cache.Config{operatorNamespace: {}}
	for _, name := range namespaces {
		out.DefaultNamespaces[name] = cache.Config{}
	}
	return out
}

// transforms decide what the cache keeps of each object.
type transforms struct {
	interner *Interner
	expected *expectedSecrets
	kinds    byType
}

func newTransforms(kinds Kinds) *transforms {
	return &transforms{interner: &Interner{}, expected: newExpectedSecrets(kinds), kinds: kinds.byType()}
}

// secret is the transform of the Secret cache.
func (t *transforms) secret(object any) (any, error) {
	out, err := t.expected.strip(object)
	if secret, ok := out.(*corev1.Secret); ok && err == nil {
		t.interner.secret(secret)
	}
	return out, err
}

// object is the transform of every other cache.
func (t *transforms) object(in any) (any, error) {
	object, ok := in.(client.Object)
	if !ok {
		return in, nil
	}
	object.SetManagedFields(nil)
	ours, ok := in.(v1alpha1.Object)
	if !ok {
		return object, nil
	}
	kind := t.kinds[reflect.TypeOf(ours)]
	t.expected.note(ours)
	if kind.StatusOnly {
		dropUnread(ours)
	}
	t.interner.object(kind, ours)
	return object, nil
}

// dropUnread takes out of the metadata of our objects what nothing reads: with kubectl apply it holds the whole object once more.
func dropUnread(object v1alpha1.Object) {
	object.SetLabels(nil)
	annotations := object.GetAnnotations()
	for key := range annotations {
		if !strings.HasPrefix(key, v1alpha1.Prefix) {
			delete(annotations, key)
		}
	}
}

// stripNamespace keeps a namespace's name and labels.
func stripNamespace(object any) (any, error) {
	if namespace, ok := object.(*corev1.Namespace); ok {
		namespace.ManagedFields, namespace.Annotations = nil, nil
	}
	return object, nil
}

// CachesFilled is the readiness check: a manager that waits for its lease is ready too. One that is missing a right without
// which a kind is not served anywhere, or which may not have the lease, is not. A right in one namespace that the operator
// serves is that namespace's affair.
func CachesFilled(caches cache.Cache, operatorNamespace string, rights *access.Rights) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !caches.WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		for _, missing := range slices.Concat(rights.BlindIn(operatorNamespace), rights.MissingIn(coordinationv1.GroupName)) {
			return errors.New(missing.Text())
		}
		return nil
	}
}
