// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// place is a kind, by its Go type, in a namespace; the namespace is empty for the whole cluster.
type place struct{ kind, namespace string }

func kindOf(object runtime.Object) string { return fmt.Sprintf("%T", object) }

// NewInformer is a constructor for the options of controller-runtime's cache. If the API server does not allow its informers to
// list, they count as synced and empty: a cache of many namespaces is synced only when each of them is, and nothing starts
// before. A cache that was filled once is never emptied because of a missing permission. The informers keep retrying, at most
// half a minute apart.
func (r *Rights) NewInformer(from toolscache.ListerWatcher, example runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	s := &source{rights: r, kind: kindOf(example), inner: toolscache.ToListerWatcherWithContext(from)}
	return toolscache.NewSharedIndexInformer(&toolscache.ListWatch{ListWithContextFunc: s.list, WatchFuncWithContext: s.watch}, example, resync, indexers)
}

// source is what one informer reads from.
type source struct {
	rights *Rights
	kind   string
	inner  toolscache.ListerWatcherWithContext
	filled atomic.Bool
	// at is the place that the source is blind for; the mutex of the rights guards it.
	at *place
}

// settling is how long a refilled cache is not trusted yet: an event from a watch reaches the cache a moment later, and a
// reconcile that starts too early reads the old state.
const settling = time.Second

func (s *source) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	ctx, asked := asking(ctx)
	out, err := s.inner.ListWithContext(ctx, options)
	switch {
	case err == nil:
		s.filled.Store(true)
	case apierrors.IsForbidden(err):
		s.refused(ctx, err, asked, "list")
		if !s.filled.Load() {
			s.rights.pretend(s.kind)
			return &metav1.List{}, nil
		}
	}
	return out, err
}

func (s *source) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	ctx, asked := asking(ctx)
	out, err := s.inner.WatchWithContext(ctx, options)
	switch {
	case err == nil:
		s.filled.Store(true)
		out = s.seeing(ctx, out, options)
	case apierrors.IsForbidden(err):
		s.refused(ctx, err, asked, "watch")
	}
	return out, err
}

// refused records that the cache no longer follows, and wakes the objects in it, which would otherwise notice only at their
// next reconcile, perhaps in an hour. A refusal concerns the namespace of the request, whatever its text: not every refusal
// comes from RBAC, and only a request for the whole cluster concerns all namespaces.
func (s *source) refused(ctx context.Context, err error, asked *Right, verb string) {
	right, ok := Missing(err)
	switch known := asked.Verb != ""; {
	case ok && known:
		right.Namespace = asked.Namespace
	case known:
		right = *asked
		right.answer = answerOf(err)
	case !ok:
		right = Right{Verb: verb, Resource: s.kind, answer: answerOf(err)}
	}
	at := place{s.kind, right.Namespace}
	s.rights.mu.Lock()
	_, known := s.rights.blind[at]
	if s.at != nil && *s.at != at {
		delete(s.rights.blind, *s.at)
	}
	s.at, s.rights.blind[at] = &at, right
	s.rights.mu.Unlock()
	if !known {
		s.rights.awaken(ctx, at.namespace)
	}
}

// seeing marks the cache as trusted again: after a list, or after a watch has sent its initial events.
func (s *source) seeing(ctx context.Context, from watch.Interface, options metav1.ListOptions) watch.Interface {
	s.rights.mu.Lock()
	at := s.at
	s.rights.mu.Unlock()
	switch {
	case at == nil:
	case options.SendInitialEvents == nil || !*options.SendInitialEvents:
		go s.sees(ctx, at)
	default:
		return watched(from, func(e watch.Event) {
			if listed(e) {
				go s.sees(ctx, at)
			}
		})
	}
	return from
}

// watched calls look with every event of a watch before it forwards the event. When stopped, it returns and stops the watch,
// even if nothing receives the event that it is forwarding.
func watched(from watch.Interface, look func(watch.Event)) watch.Interface {
	events := make(chan watch.Event)
	out := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer from.Stop()
		for {
			select {
			case <-out.StopChan():
				return
			case e, ok := <-from.ResultChan():
				if !ok {
					return
				}
				look(e)
				select {
				case events <- e:
				case <-out.StopChan():
					return
				}
			}
		}
	}()
	return out
}

// listed reports whether an event ends the initial events of a watch.
func listed(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	object, err := meta.Accessor(e.Object)
	return err == nil && object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// sees ends the blindness recorded in at, unless a newer one has replaced it.
func (s *source) sees(ctx context.Context, at *place) {
	pause(ctx, settling)
	s.rights.mu.Lock()
	over := s.at == at && ctx.Err() == nil
	if over {
		delete(s.rights.blind, *at)
		s.at = nil
	}
	s.rights.mu.Unlock()
	if over {
		s.rights.awaken(ctx, at.namespace)
	}
}

// awaken wakes the objects in a namespace, in a goroutine: the caller may be the one that fills the cache in which they are
// looked up.
func (r *Rights) awaken(ctx context.Context, namespace string) {
	r.mu.Lock()
	wake := slices.Clone(r.wake)
	r.mu.Unlock()
	go func() {
		for _, one := range wake {
			one(ctx, namespace)
		}
	}()
}

func (r *Rights) pretend(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pretended[kind] = true
}

// Pretended reports whether a cache of the kind ever counted as synced while empty. The events of a watch may then be old.
func (r *Rights) Pretended(object runtime.Object) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pretended[kindOf(object)]
}

// Blind returns the missing permission that keeps the cache from following the kind in the namespace; ok is false if it follows.
func (r *Rights) Blind(object runtime.Object, namespace string) (missing Right, ok bool) {
	if r == nil {
		return Right{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range []place{{kindOf(object), namespace}, {kindOf(object), ""}} {
		if missing, ok = r.blind[at]; ok {
			return missing, true
		}
	}
	return Right{}, false
}

// BlindIn returns the missing permissions that keep the caches from following whole kinds, in the cluster or in one of the
// namespaces.
func (r *Rights) BlindIn(namespaces ...string) []Right {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Right
	for at, right := range r.blind {
		if at.namespace == "" || slices.Contains(namespaces, at.namespace) {
			out = append(out, right)
		}
	}
	slices.SortFunc(out, compare)
	return out
}
