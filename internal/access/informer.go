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
	// at is where it was found to be blind. Only its informer's one loop uses it.
	at *place
}

func (s *source) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	out, err := s.inner.ListWithContext(ctx, options)
	switch {
	case err == nil:
		s.filled.Store(true)
	case apierrors.IsForbidden(err):
		s.refused(err, "list")
		if !s.filled.Load() {
			s.rights.pretend(s.kind)
			return &metav1.List{}, nil
		}
	}
	return out, err
}

func (s *source) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	out, err := s.inner.WatchWithContext(ctx, options)
	switch {
	case err == nil:
		s.filled.Store(true)
		s.sees()
	case apierrors.IsForbidden(err):
		s.refused(err, "watch")
	}
	return out, err
}

func (s *source) refused(err error, verb string) {
	right, ok := Missing(err)
	if !ok {
		right = Right{Verb: verb, Resource: s.kind}
	}
	at := place{s.kind, right.Namespace}
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	s.at, s.rights.blind[at] = &at, right
}

func (s *source) sees() {
	if s.at == nil {
		return
	}
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	delete(s.rights.blind, *s.at)
	s.at = nil
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
