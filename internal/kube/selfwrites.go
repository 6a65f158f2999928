// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// SelfWriteFilter remembers the resourceVersion of our last write of each Secret, so that the watch event of that write
// triggers no reconcile: the one that wrote it has already seen it. Any other change of the Secret has another resourceVersion.
// If the event arrives before the response, one reconcile is superfluous. A webhook may hide a Secret from the watch, so its
// event may never come: one write is remembered per owner, and none for an owner that is gone.
type SelfWriteFilter struct {
	mu       sync.Mutex
	versions map[client.ObjectKey]selfWrite
	byOwner  map[string]client.ObjectKey
	// held are Secrets of which the cache kept nothing.
	held *heldSecrets
}

// selfWrite is the resourceVersion after a write of the owner's Secret.
type selfWrite struct{ owner, version string }

// NewSelfWriteFilter returns a filter that has seen no write.
func NewSelfWriteFilter() *SelfWriteFilter {
	return &SelfWriteFilter{versions: map[client.ObjectKey]selfWrite{}, byOwner: map[string]client.ObjectKey{}, held: newHeldSecrets()}
}

// Client returns a client for the Secret of one owner. It notes every Secret that it creates or updates, and bypasses the cache
// if the cache is older than that write or has kept nothing of the Secret.
func (w *SelfWriteFilter) Client(owner string, inner client.Client, live client.Reader) client.Client {
	return secretClient{inner, live, w, owner}
}

// Others passes events about Secrets of this kind of owner, except the event of our own last write, unless the owner changed.
func (w *SelfWriteFilter) Others(kind string) predicate.Predicate {
	own := func(o client.Object) bool {
		owner, _, ok := secretstore.OwnerOf(o)
		return ok && owner == kind && w.was(o)
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return !own(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectNew.GetResourceVersion() != e.ObjectOld.GetResourceVersion() && (!own(e.ObjectNew) ||
				e.ObjectNew.GetAnnotations()[v1alpha1.AnnotationOwner] != e.ObjectOld.GetAnnotations()[v1alpha1.AnnotationOwner])
		},
		DeleteFunc: func(e event.DeleteEvent) bool { w.forget(e.Object); return true },
	}
}

func (w *SelfWriteFilter) note(owner string, o client.Object) {
	if _, ok := o.(*corev1.Secret); !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(o)
	w.drop(key)
	if before, ok := w.byOwner[owner]; ok {
		w.drop(before)
	}
	w.versions[key], w.byOwner[owner] = selfWrite{owner, strings.Clone(o.GetResourceVersion())}, key
}

// drop forgets the last write of a Secret. The caller holds the mutex.
func (w *SelfWriteFilter) drop(key client.ObjectKey) {
	delete(w.byOwner, w.versions[key].owner)
	delete(w.versions, key)
}

// was reports whether the object is the result of our last write. It is called once per event and then forgets the write: the
// same state appears again only if the watch restarts, and then as an update without changes.
func (w *SelfWriteFilter) was(o client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(o)
	if last, ok := w.versions[key]; !ok || last.version != o.GetResourceVersion() {
		return false
	}
	w.drop(key)
	return true
}

func (w *SelfWriteFilter) forget(o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(client.ObjectKeyFromObject(o))
}

// Release forgets an owner that is gone.
func (w *SelfWriteFilter) Release(owner string) {
	w.held.release(owner)
	w.mu.Lock()
	defer w.mu.Unlock()
	if key, ok := w.byOwner[owner]; ok {
		w.drop(key)
	}
}

// Remembered returns how many writes are remembered, and how many Secrets are held beside the cache.
func (w *SelfWriteFilter) Remembered() (writes, held int) {
	w.held.mu.Lock()
	held = len(w.held.byOwner)
	w.held.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(len(w.versions), len(w.byOwner)), held
}

// newer reports whether our last write of the Secret is newer than the cache's copy.
func (w *SelfWriteFilter) newer(o client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, ok := w.versions[client.ObjectKeyFromObject(o)]
	if !ok {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(last.version, o.GetResourceVersion())
	return err != nil || order > 0
}

// WithoutReadYourWrites returns a client for Secrets that never waits until the cache shows a write.
func WithoutReadYourWrites(inner client.Client) client.Client { return secretClient{Client: inner} }

// secretClient is a client for Secrets. Their cache selects by a label that an admission webhook or a user may remove: a read
// that waits until the cache shows our write or deletion may wait forever. So no request waits; if the cache is older than our
// own last write, the Secret is read from the API server.
type secretClient struct {
	client.Client
	live client.Reader
	// writes notes the writes; nil if no written Secret is read from a cache.
	writes *SelfWriteFilter
	// owner of the Secret; empty if writes is nil.
	owner string
}

// Get implements client.Reader.
func (c secretClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	err := c.Client.Get(ctx, key, o, append(options, client.DisableReadYourWritesConsistency)...)
	shown, ok := o.(*corev1.Secret)
	if err != nil || c.writes == nil || !ok {
		return err
	}
	older, leftOut := c.writes.newer(o), secretstore.LeftOut(shown)
	switch {
	case !leftOut:
		c.writes.held.release(c.owner)
	case !older && c.writes.held.fill(c.owner, shown):
		return nil
	}
	if !older && !leftOut {
		return nil
	}
	var read corev1.Secret // decoding into the existing object would merge the two
	if err := c.live.Get(ctx, key, &read); err != nil {
		return err
	}
	read.DeepCopyInto(shown)
	if leftOut {
		return c.writes.held.keep(c.owner, &read)
	}
	return nil
}

// Create implements client.Writer.
func (c secretClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	err := c.Client.Create(ctx, o, append(options, client.DisableReadYourWritesConsistency)...)
	if err == nil && c.writes != nil {
		c.writes.note(c.owner, o)
	}
	return err
}

// Update implements client.Writer.
func (c secretClient) Update(ctx context.Context, o client.Object, options ...client.UpdateOption) error {
	err := c.Client.Update(ctx, o, append(options, client.DisableReadYourWritesConsistency)...)
	if err == nil && c.writes != nil {
		c.writes.note(c.owner, o)
	}
	return err
}

// Delete implements client.Writer.
func (c secretClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	return c.Client.Delete(ctx, o, append(options, client.DisableReadYourWritesConsistency)...)
}
