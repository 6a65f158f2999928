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

// CacheOptions returns options for a cache that holds only what rekey owns: of Secrets only those that rekey created, without
// their secret data. With namespaces, Secrets are listed only in those and in the operator's. A kind that may not be listed,
// according to rights, holds nothing up.
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

// transforms decides what the cache keeps of each object.
type transforms struct {
	interner *Interner
	expected *expectedSecrets
	kinds    byType
}

func newTransforms(kinds Kinds) *transforms {
	return &transforms{interner: &Interner{}, expected: newExpectedSecrets(kinds), kinds: kinds.byType()}
}

// secret is the transform for Secrets.
func (t *transforms) secret(object any) (any, error) {
	out, err := t.expected.strip(object)
	if secret, ok := out.(*corev1.Secret); ok && err == nil {
		t.interner.secret(secret)
	}
	return out, err
}

// object is the transform for every other kind.
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

// dropUnread drops metadata that nothing reads: with kubectl apply, an annotation holds the whole object once more.
func dropUnread(object v1alpha1.Object) {
	object.SetLabels(nil)
	annotations := object.GetAnnotations()
	for key := range annotations {
		if !strings.HasPrefix(key, v1alpha1.Prefix) {
			delete(annotations, key)
		}
	}
}

// stripNamespace keeps only a namespace's name and labels.
func stripNamespace(object any) (any, error) {
	if namespace, ok := object.(*corev1.Namespace); ok {
		namespace.ManagedFields, namespace.Annotations = nil, nil
	}
	return object, nil
}

// CachesFilled is the readiness check. A manager that waits for its lease is ready. A manager is not ready if it lacks a right
// without which a kind is not served anywhere, or the right to hold the lease. A right that is missing in a single served
// namespace does not count.
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
