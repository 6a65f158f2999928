// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rekey/rekey/internal/access"
)

// NewObjects tracks objects that were created while this process is the leader and for which nothing was created yet. Only a user
// can have created their Secrets, so a cache miss is trusted and the live GET is skipped; if a Secret exists after all, creating
// it fails and the object is looked up from then on. A nil NewObjects tracks nothing.
type NewObjects struct {
	rights *access.Rights
	mu     sync.Mutex
	uids   map[types.UID]struct{}
}

// TrackNewObjects returns a tracker that has seen no object.
func TrackNewObjects(rights *access.Rights) *NewObjects {
	return &NewObjects{rights: rights, uids: map[types.UID]struct{}{}}
}

// Created records every object that a watch adds after the first list, until the object is deleted. It passes every event on.
func (n *NewObjects) Created() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			// A cache that could not be filled at first adds everything later.
			if n != nil && !e.IsInInitialList && !n.rights.Pretended(e.Object) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.uids[e.Object.GetUID()] = struct{}{}
			}
			return true
		},
		DeleteFunc: func(e event.DeleteEvent) bool { n.Forget(e.Object.GetUID()); return true },
	}
}

// Has reports whether the object is new.
func (n *NewObjects) Has(uid types.UID) bool {
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.uids[uid]
	return ok
}

// Forget makes every later lookup of the object a live one: something was created for it, its Secret existed already, or the
// object is gone.
func (n *NewObjects) Forget(uid types.UID) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.uids, uid)
}
