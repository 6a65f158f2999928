// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/secretstore"
)

// expected knows which Secrets an identity names: the cache holds the certificates of those, and of all others nothing but
// who they say they belong to. Anyone who can write Secrets can give them our label, as many and as large as a quota allows.
// A Secret that the cache shows before its identity is read from the API server instead. It is safe for concurrent use.
type expected struct {
	seed maphash.Seed
	mu   sync.RWMutex
	held map[uint64]struct{}
	done []toolscache.DoneChecker
}

// identitiesPatience is how long Secrets wait for the identities to be listed, which may be forbidden.
const identitiesPatience = 10 * time.Second

// secretsPage is how many Secrets are asked for at once where they cannot be streamed: each may have a MiB.
const secretsPage = 32

func newExpected() *expected {
	return &expected{seed: maphash.MakeSeed(), held: map[uint64]struct{}{}}
}

// hash may be that of another Secret, too: then that one stays in the cache as well, which does no harm.
func (e *expected) hash(namespace, secret string) uint64 {
	return maphash.Comparable(e.seed, [2]string{namespace, secret})
}

func (e *expected) note(namespace, secret string) {
	key := e.hash(namespace, secret)
	if e.has(key) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held[key] = struct{}{}
}

func (e *expected) has(key uint64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, ok := e.held[key]
	return ok
}

func (e *expected) is(secret *corev1.Secret) bool {
	return e.has(e.hash(secret.Namespace, secret.Name))
}

// forget is for an identity that is gone. One that names the same Secret is noted again when its status is written next.
func (e *expected) forget(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	identity, ok := object.(client.Object)
	if !ok {
		return
	}
	if spec := partsOfIdentity(identity).spec; spec != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.held, e.hash(identity.GetNamespace(), string(spec.SecretName)))
	}
}

// newInformer makes an informer.
type newInformer func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer

// informers makes the informers of the cache: that of Secrets waits for those of identities.
func (e *expected) informers(inner newInformer) newInformer {
	return func(lists toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		if _, ok := object.(*corev1.Secret); ok {
			lists = e.secrets(toolscache.ToListerWatcherWithContext(lists))
		}
		out := inner(lists, object, resync, indexers)
		if identity, ok := object.(client.Object); ok && partsOfIdentity(identity).spec != nil {
			// It fails only where the informer has ended.
			_, _ = out.AddEventHandler(toolscache.ResourceEventHandlerFuncs{DeleteFunc: e.forget})
			e.mu.Lock()
			defer e.mu.Unlock()
			e.done = append(e.done, out.HasSyncedChecker())
		}
		return out
	}
}

// secrets lists and watches Secrets once the identities are known, and never asks for many at once.
func (e *expected) secrets(inner toolscache.ListerWatcherWithContext) *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			e.wait(ctx)
			return e.pages(ctx, inner, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			e.wait(ctx)
			return inner.WatchWithContext(ctx, options)
		},
	}
}

func (e *expected) wait(ctx context.Context) {
	e.mu.RLock()
	done := e.done
	e.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, identitiesPatience)
	defer cancel()
	toolscache.WaitFor(ctx, "", done...)
}

// pages lists all Secrets, a few at a time, and keeps of each what the cache will keep. An API server that cannot stream a list
// would answer with all of them in one piece, which may be larger than what this process may hold.
func (e *expected) pages(ctx context.Context, inner toolscache.ListerWatcherWithContext, options metav1.ListOptions) (runtime.Object, error) {
	// Version 0 is answered from a cache that knows no pages.
	options.Limit = secretsPage
	if options.ResourceVersion == "0" {
		options.ResourceVersion, options.ResourceVersionMatch = "", ""
	}
	all := &corev1.SecretList{}
	for {
		answer, err := inner.ListWithContext(ctx, options)
		if err != nil {
			return nil, err
		}
		page, ok := answer.(*corev1.SecretList)
		if !ok {
			return nil, fmt.Errorf("listing Secrets: the answer is a %T", answer)
		}
		for i := range page.Items {
			if _, err := e.strip(&page.Items[i]); err != nil {
				return nil, err
			}
			all.Items = append(all.Items, page.Items[i])
		}
		all.TypeMeta, all.ListMeta = page.TypeMeta, page.ListMeta
		if page.Continue == "" {
			return all, nil
		}
		options.Continue, options.ResourceVersion, options.ResourceVersionMatch = page.Continue, "", ""
	}
}

// strip takes out of a Secret what the cache does not keep.
func (e *expected) strip(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok && !e.is(secret) {
		return secretstore.StripAll(secret), nil
	}
	return secretstore.StripMaterial(object)
}
