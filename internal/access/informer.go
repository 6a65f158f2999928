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

// NewInformer is what the options of controller-runtime's cache take. Its informers count as filled, with nothing, where the
// API server does not let them list: a cache of many namespaces is filled when each of them is, and nothing begins before.
// What was filled once is never emptied for want of a right. They go on trying, at most half a minute apart.
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
	// at is where it was found to be blind, behind the mutex of the rights.
	at *place
}

// settling is how long a cache that was filled again is given until it is believed: what comes from a watch is in the cache a
// moment later, and whoever is woken before reads what was there before.
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

// refused notes that the cache does not follow any longer. Who is in it would learn of that when it is looked at next, which
// may be in an hour, and is woken. A refusal concerns the namespace that was asked about, whatever its words are: not every
// refusal is RBAC's, and only a request for the whole cluster concerns all namespaces.
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

// seeing has the cache believed again: once it was listed, or once the watch that lists has told of everything.
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

// watched shows every event of a watch to look before it passes it on. Once it is stopped it ends, and ends the watch, also
// where nobody takes the event that it is about to pass on.
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

// listed reports whether a watch that begins with what is there has told of all of it.
func listed(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	object, err := meta.Accessor(e.Object)
	return err == nil && object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// sees ends the blindness that began with at, unless another one began since.
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

// awaken wakes whoever is in a namespace, beside what the caller does: it may be the one that fills the cache in which they
// are looked up.
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

// Pretended reports whether a cache of the kind was ever filled with nothing. Then what a watch tells of may be old.
func (r *Rights) Pretended(object runtime.Object) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pretended[kindOf(object)]
}

// Blind reports which right is missing for the cache to follow the kind in the namespace; ok is false where it does.
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

// BlindIn are the rights that are missing for the caches to follow whole kinds in the cluster, or in one of the namespaces.
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
