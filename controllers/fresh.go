// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rekey/rekey/internal/access"
)

// fresh knows the objects that were created while this process was at work, by their watch, and that nothing was made for
// yet. Nobody else works at that time, so a Secret of theirs that the cache does not show is not there, but for one of a
// stranger; and where one is there all the same, its creation is refused, and from then on it is looked up. A nil one knows
// none.
type fresh struct {
	rights *access.Rights
	mu     sync.Mutex
	uids   map[types.UID]struct{}
}

func newFresh(rights *access.Rights) *fresh {
	return &fresh{rights: rights, uids: map[types.UID]struct{}{}}
}

// created notes every object that the watch tells of after the first list, until it is deleted, and passes every event on.
func (f *fresh) created() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			// A cache that could not be filled at first tells of everything later.
			if f != nil && !e.IsInInitialList && !f.rights.Pretended(e.Object) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.uids[e.Object.GetUID()] = struct{}{}
			}
			return true
		},
		DeleteFunc: func(e event.DeleteEvent) bool { f.forget(e.Object.GetUID()); return true },
	}
}

// is tells whether the object is fresh.
func (f *fresh) is(uid types.UID) bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.uids[uid]
	return ok
}

// forget looks up everything about the object from now on: something was made for it, its Secret was there already, or it is
// gone.
func (f *fresh) forget(uid types.UID) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.uids, uid)
}
