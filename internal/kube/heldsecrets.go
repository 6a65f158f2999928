// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/secretstore"
)

// heldSecrets holds Secrets that the cache dropped because it saw them before the identities that name them. It keeps them as the
// API server returned them, but without keys, like the cache. An entry is valid while the cache shows the same state of the Secret.
// Each existing identity has at most one.
type heldSecrets struct {
	interner *Interner
	mu       sync.Mutex
	byOwner  map[string]*corev1.Secret
}

func newHeldSecrets() *heldSecrets {
	return &heldSecrets{interner: &Interner{}, byOwner: map[string]*corev1.Secret{}}
}

// fill completes the cache's copy of the owner's Secret; it reports whether that state of the Secret is held.
func (h *heldSecrets) fill(owner string, shown *corev1.Secret) bool {
	h.mu.Lock()
	held := h.byOwner[owner]
	h.mu.Unlock()
	if held == nil || held.Namespace != shown.Namespace || held.Name != shown.Name || held.UID != shown.UID || held.ResourceVersion != shown.ResourceVersion {
		return false
	}
	held.DeepCopyInto(shown)
	return true
}

// keep holds the owner's Secret as read from the API server.
func (h *heldSecrets) keep(owner string, read *corev1.Secret) error {
	held := read.DeepCopy()
	if _, err := secretstore.StripMaterial(held); err != nil {
		return err
	}
	if secretstore.LeftOut(held) { // it contains more than is ever held
		h.release(owner)
		return nil
	}
	h.interner.secret(held)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byOwner[owner] = held
	return nil
}

// release drops the Secret of an owner that is gone, or whose Secret is now in the cache.
func (h *heldSecrets) release(owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byOwner, owner)
}
