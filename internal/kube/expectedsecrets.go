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

// expectedSecrets tracks which Secrets identities name. Of those the cache holds the certificates; of all others it holds only
// the claimed owner. Any user who can write Secrets can label them as rekey's, as many and as large as a quota allows. A Secret
// that the cache sees before its identity is read from the API server instead (heldSecrets). It is safe for concurrent use.
type expectedSecrets struct {
	kinds byType
	seed  maphash.Seed
	mu    sync.RWMutex
	// names maps an identity to the Secret that it names; held counts the identities that name a Secret.
	names map[uint64]uint64
	held  map[uint64]int
	done  []toolscache.DoneChecker
}

// identitiesPatience is how long Secrets wait until the identities are listed, which may be forbidden.
const identitiesPatience = 10 * time.Second

func newExpectedSecrets(kinds Kinds) *expectedSecrets {
	return &expectedSecrets{kinds: kinds.byType(), seed: maphash.MakeSeed(), names: map[uint64]uint64{}, held: map[uint64]int{}}
}

// hash may collide with another Secret's: then the cache keeps that one as well, which is harmless.
func (e *expectedSecrets) hash(namespace, secret string) uint64 {
	return maphash.Comparable(e.seed, [2]string{namespace, secret})
}

// identity distinguishes objects by UID: a recreated object with the same name is another identity.
func (e *expectedSecrets) identity(object client.Object) uint64 {
	return maphash.Comparable(e.seed, [3]string{object.GetNamespace(), object.GetName(), string(object.GetUID())})
}

// secretOf returns the function that names the Secret which the cache keeps for an object of this kind; nil if it keeps none.
func (e *expectedSecrets) secretOf(object any) func(v1alpha1.Object) string {
	return e.kinds[reflect.TypeOf(object)].CachedSecret
}

// note must be called for every state of an identity before the cache shows it.
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

// drop forgets the Secret that an identity names. The caller holds the mutex.
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

// forget handles a deleted identity. Others that name the same Secret still count, even one with the same name.
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

// replaced handles an identity that the cache replaced with a recreated one: no watch reported the deletion.
func (e *expectedSecrets) replaced(before, after any) {
	old, isOld := before.(client.Object)
	now, isNow := after.(client.Object)
	if isOld && isNow && old.GetUID() != now.GetUID() {
		e.forget(old)
	}
}

// newInformer creates an informer.
type newInformer func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer

// informers creates the informers of the cache: the one for Secrets waits for those of the identities.
func (e *expectedSecrets) informers(inner newInformer) newInformer {
	return func(lists toolscache.ListerWatcher, object runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
		if _, ok := object.(*corev1.Secret); ok {
			lists = e.secrets(toolscache.ToListerWatcherWithContext(lists))
		}
		out := inner(lists, object, resync, indexers)
		if e.secretOf(object) != nil {
			// It fails only if the informer has stopped.
			_, _ = out.AddEventHandler(toolscache.ResourceEventHandlerFuncs{UpdateFunc: e.replaced, DeleteFunc: e.forget})
			e.mu.Lock()
			defer e.mu.Unlock()
			e.done = append(e.done, out.HasSyncedChecker())
		}
		return out
	}
}

// secrets lists and watches Secrets once the identities are known. It never requests many at once.
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

// pages lists all Secrets, a page at a time, and keeps of each what the cache will keep. An API server that cannot stream a
// list would otherwise return all of them at once, which may be more than this process can hold.
func (e *expectedSecrets) pages(ctx context.Context, inner toolscache.ListerWatcherWithContext, options metav1.ListOptions) (runtime.Object, error) {
	pages := secretPages{inner: inner, limit: secretsPage}
	return pages.list(ctx, options, func(secret *corev1.Secret) error {
		_, err := e.strip(secret)
		return err
	})
}

// strip removes from a Secret what the cache does not keep.
func (e *expectedSecrets) strip(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok && !e.is(secret) {
		return secretstore.StripAll(secret), nil
	}
	return secretstore.StripMaterial(object)
}
