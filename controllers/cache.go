// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"github.com/rekey/rekey/api/v1alpha1"
)

// CacheOptions hold in memory what is ours and no more: of Secrets only those that rekey made, and of these nothing that
// is secret. With namespaces, Secrets are listed in those and in the operator's only.
func CacheOptions(namespaces []string, operatorNamespace string) cache.Options {
	shared := &common{}
	out := cache.Options{
		DefaultTransform: shared.object,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				Label:     labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}),
				Transform: shared.secret,
			},
			&corev1.Namespace{}: {Transform: stripNamespace},
		},
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

// CachesFilled is the readiness check: a manager that waits for its lease is ready too.
func CachesFilled(caches cache.Cache) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !caches.WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
}
