// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"net/http"
	"slices"
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

// CacheOptions hold in memory what is ours and no more: of Secrets only those that rekey made, and of these nothing that
// is secret. With namespaces, Secrets are listed in those and in the operator's only. What rights says may not be listed
// holds nothing up.
func CacheOptions(namespaces []string, operatorNamespace string, rights *access.Rights) cache.Options {
	shared := newCommon()
	out := cache.Options{
		NewInformer:      shared.expected.informers(toolscache.NewSharedIndexInformer),
		DefaultTransform: shared.object,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}),
				Transform: shared.secret,
			},
			&corev1.Namespace{}: {Transform: stripNamespace},
		},
	}
	if rights != nil {
		out.NewInformer = shared.expected.informers(rights.NewInformer)
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
