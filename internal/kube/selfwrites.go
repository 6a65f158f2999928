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

// SelfWriteFilter remembers what the API server made of our last write of each Secret, so that the watch which shows us that very
// write wakes nobody: the pass that wrote it has seen it already. Everything else that happens to the Secret has another
// resourceVersion. Where the event comes before the answer, one pass is made for nothing. A webhook may hide a Secret from the
// watch, so that its event never comes: of each owner one write is remembered, and none of an owner that is gone.
type SelfWriteFilter struct {
	mu       sync.Mutex
	versions map[client.ObjectKey]selfWrite
	byOwner  map[string]client.ObjectKey
	// held are the Secrets that the cache left out.
	held *heldSecrets
}

// selfWrite is the resourceVersion that a write of the owner's Secret left.
type selfWrite struct{ owner, version string }

// NewSelfWriteFilter returns a filter that has seen no write.
func NewSelfWriteFilter() *SelfWriteFilter {
	return &SelfWriteFilter{versions: map[client.ObjectKey]selfWrite{}, byOwner: map[string]client.ObjectKey{}, held: newHeldSecrets()}
}

// Client is for the Secret of one owner. It notes every Secret that it creates or updates, and reads past the cache where that
// has not seen the note yet, or has kept nothing of the Secret.
func (w *SelfWriteFilter) Client(owner string, inner client.Client, live client.Reader) client.Client {
	return secretClient{inner, live, w, owner}
}

// Others passes every event about a Secret of this kind of owner but that of our own last write, unless it changed hands.
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

// was tells whether that is what our last write left. It is asked once for each event, and then forgets the write: the same
// state comes again only when the watch begins anew, and then as an update that changes nothing.
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

// Release is for an owner that is gone.
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

// newer reports whether our last write of the Secret is newer than the copy that a cache shows.
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

// WithoutReadYourWrites returns a client for Secrets that never waits until the cache has seen a write.
func WithoutReadYourWrites(inner client.Client) client.Client { return secretClient{Client: inner} }

// secretClient is for Secrets. Its cache selects by a label that an admission webhook or a user may take away: a read that waits
// until the cache has seen our write, or our deletion, may wait for something that never comes. So none of its requests waits
// or is waited for; where the cache is older than our own last write, the API server is asked.
type secretClient struct {
	client.Client
	live client.Reader
	// writes are those to note; nil where nobody reads what is written from a cache.
	writes *SelfWriteFilter
	// owner is who reads; empty beside nil writes.
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
	var read corev1.Secret // an answer is merged into what is there already
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
