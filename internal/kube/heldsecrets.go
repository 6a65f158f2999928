// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/secretstore"
)

// heldSecrets are those of which the cache kept nothing, because it saw them before the identity that names them. What the API
// server answered once is held beside the cache, without keys as there, and counts while the cache shows the same state of the
// Secret. There is at most one for each identity, and none of an identity that is gone.
type heldSecrets struct {
	interner *Interner
	mu       sync.Mutex
	byOwner  map[string]*corev1.Secret
}

func newHeldSecrets() *heldSecrets {
	return &heldSecrets{interner: &Interner{}, byOwner: map[string]*corev1.Secret{}}
}

// fill completes what the cache shows of the owner's Secret; it reports whether that state of it is held.
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

// keep holds the owner's Secret as the API server has it.
func (h *heldSecrets) keep(owner string, read *corev1.Secret) error {
	held := read.DeepCopy()
	if _, err := secretstore.StripMaterial(held); err != nil {
		return err
	}
	if secretstore.LeftOut(held) { // it has more in it than is ever held
		h.release(owner)
		return nil
	}
	h.interner.secret(held)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byOwner[owner] = held
	return nil
}

// release is for an owner that is gone, or whose Secret is in the cache now.
func (h *heldSecrets) release(owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byOwner, owner)
}
