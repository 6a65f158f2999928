// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"hash/maphash"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// expectedSecrets knows which Secrets an identity names: the cache holds the certificates of those, and of all others nothing but
// who they say they belong to. Anyone who can write Secrets can give them our label, as many and as large as a quota allows.
// A Secret that the cache shows before its identity is read from the API server instead (heldSecrets). It is safe for concurrent
// use.
type expectedSecrets struct {
	kinds byType
	seed  maphash.Seed
	mu    sync.RWMutex
	// names is which Secret an identity names; held counts the identities that name it.
	names map[uint64]uint64
	held  map[uint64]int
	done  []toolscache.DoneChecker
}

// identitiesPatience is how long Secrets wait for the identities to be listed, which may be forbidden.
const identitiesPatience = 10 * time.Second

func newExpectedSecrets(kinds Kinds) *expectedSecrets {
	return &expectedSecrets{kinds: kinds.byType(), seed: maphash.MakeSeed(), names: map[uint64]uint64{}, held: map[uint64]int{}}
}

// hash may be that of another Secret, too: then that one stays in the cache as well, which does no harm.
func (e *expectedSecrets) hash(namespace, secret string) uint64 {
	return maphash.Comparable(e.seed, [2]string{namespace, secret})
}

// identity is one object of all that ever were: another one of its name is another identity.
func (e *expectedSecrets) identity(object client.Object) uint64 {
	return maphash.Comparable(e.seed, [3]string{object.GetNamespace(), object.GetName(), string(object.GetUID())})
}

// secretOf returns what names the Secret that the cache keeps for an object of this kind; nil where it keeps none.
func (e *expectedSecrets) secretOf(object any) func(v1alpha1.Object) string {
	return e.kinds[reflect.TypeOf(object)].CachedSecret
}

// note is for every state of an identity that the cache is about to show.
func (e *expectedSecrets) note(identity v1alpha1.Object) {
	secretOf := e.secretOf(identity)
	if secretOf == nil {
		return
	}
	of, named := e.identity(identity), e.hash(identity.GetNamespace(), secretOf(identity))
	e.mu.RLock()
	before, known := e.names[of]
	e.mu.RUnlock()
	if known && before == named {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(of)
	e.names[of] = named
	e.held[named]++
}

// drop forgets what an identity names. The caller holds the mutex.
func (e *expectedSecrets) drop(identity uint64) {
	named, known := e.names[identity]
	if !known {
		return
	}
	delete(e.names, identity)
	if e.held[named]--; e.held[named] == 0 {
		delete(e.held, named)
	}
}

func (e *expectedSecrets) is(secret *corev1.Secret) bool {
	key := e.hash(secret.Namespace, secret.Name)
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.held[key] > 0
}

// forget is for an identity that is gone. Another one that names the same Secret still does, also one that has its name.
func (e *expectedSecrets) forget(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	identity, ok := object.(client.Object)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(e.identity(identity))
}

// replaced is for an identity in whose place the cache shows another one: no watch told of the deletion between them.
func (e *expectedSecrets) replaced(before, after any) {
	old, isOld := before.(client.Object)
	now, isNow := after.(client.Object)
	if isOld && isNow && old.GetUID() != now.GetUID() {
		e.forget(old)
	}
}

// newInformer makes an informer.
type newInformer func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer

// informers makes the informers of the cache: that of Secrets waits for those of identities.
func (e *expectedSecrets) informers(inner newInformer) newInformer {
	return func(lists toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		if _, ok := object.(*corev1.Secret); ok {
			lists = e.secrets(toolscache.ToListerWatcherWithContext(lists))
		}
		out := inner(lists, object, resync, indexers)
		if e.secretOf(object) != nil {
			// It fails only where the informer has ended.
			_, _ = out.AddEventHandler(toolscache.ResourceEventHandlerFuncs{UpdateFunc: e.replaced, DeleteFunc: e.forget})
			e.mu.Lock()
			defer e.mu.Unlock()
			e.done = append(e.done, out.HasSyncedChecker())
		}
		return out
	}
}

// secrets lists and watches Secrets once the identities are known, and never asks for many at once.
func (e *expectedSecrets) secrets(inner toolscache.ListerWatcherWithContext) *toolscache.ListWatch {
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

func (e *expectedSecrets) wait(ctx context.Context) {
	e.mu.RLock()
	done := e.done
	e.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, identitiesPatience)
	defer cancel()
	toolscache.WaitFor(ctx, "", done...)
}

// pages lists all Secrets, a few at a time, and keeps of each what the cache will keep. An API server that cannot stream a list
// would answer with all of them in one piece, which may be larger than what this process may hold.
func (e *expectedSecrets) pages(ctx context.Context, inner toolscache.ListerWatcherWithContext, options metav1.ListOptions) (runtime.Object, error) {
	pages := secretPages{inner: inner, limit: secretsPage}
	return pages.list(ctx, options, func(secret *corev1.Secret) error {
		_, err := e.strip(secret)
		return err
	})
}

// strip takes out of a Secret what the cache does not keep.
func (e *expectedSecrets) strip(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok && !e.is(secret) {
		return secretstore.StripAll(secret), nil
	}
	return secretstore.StripMaterial(object)
}
