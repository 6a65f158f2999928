// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// change is one entry of what a watch would report: an object at that time, nil if it was deleted.
type change struct {
	key    client.ObjectKey
	object client.Object
}

// history is everything that happened, in order, by kind.
type history map[string][]change

func (h history) record(o client.Object, gone bool) {
	kind := world.KindOf(o)
	c := change{key: client.ObjectKeyFromObject(o)}
	if !gone {
		c.object = copyOf(o)
	}
	h[kind] = append(h[kind], c)
}

// at returns an object as it was after the first n changes of its kind, or nil if it did not exist.
func (h history) at(kind string, key client.ObjectKey, n int) client.Object {
	for i := min(n, len(h[kind])) - 1; i >= 0; i-- {
		if c := h[kind][i]; c.key == key {
			return c.object
		}
	}
	return nil
}

// lengths returns the number of changes of each kind so far.
func (h history) lengths() map[string]int {
	out := map[string]int{}
	for kind, changes := range h {
		out[kind] = len(changes)
	}
	return out
}

// now returns an object's current state.
func (h history) now(kind string, key client.ObjectKey) client.Object {
	return h.at(kind, key, len(h[kind]))
}

// all returns every object of a kind as it was after n changes.
func (h history) all(kind string, n int) []client.Object {
	var out []client.Object
	seen := map[client.ObjectKey]bool{}
	for i := min(n, len(h[kind])) - 1; i >= 0; i-- {
		if c := h[kind][i]; !seen[c.key] {
			seen[c.key] = true
			if c.object != nil {
				out = append(out, c.object)
			}
		}
	}
	return out
}

// view is how much of the history the informers of one process have seen.
type view struct {
	seen map[string]int
	// own is the history that a process must have seen because it wrote it.
	own map[string]int
}

func newView() *view { return &view{seen: map[string]int{}, own: map[string]int{}} }

// cached answers a read from the manager's cache.
func (a *actor) cached(r world.Request) error {
	h := a.play.history
	if r.List != nil {
		return a.cachedList(r)
	}
	a.advanceInformer(r.Kind)
	found := h.at(r.Kind, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, a.view.seen[r.Kind])
	if found == nil || !inCache(found) {
		return apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: strings.ToLower(r.Kind)}, r.Name)
	}
	fill(r.Object, stripped(found))
	return nil
}

func (a *actor) cachedList(r world.Request) error {
	kind := strings.TrimSuffix(r.Kind, "List")
	a.advanceInformer(kind)
	var items []runtime.Object
	for _, o := range a.play.history.all(kind, a.view.seen[kind]) {
		if !inCache(o) || r.ListOptions.Namespace != "" && o.GetNamespace() != r.ListOptions.Namespace {
			continue
		}
		if r.ListOptions.FieldSelector != nil {
			// A reconcile lists by this index only.
			if policy, ok := r.ListOptions.FieldSelector.RequiresExactMatch("rekey.policy"); !ok || fixture.PolicyOf(o) != policy {
				continue
			}
		}
		items = append(items, stripped(o))
	}
	return meta.SetList(r.List, items)
}

// advanceInformer lets the informer of a kind see more, or not.
func (a *actor) advanceInformer(kind string) {
	head := len(a.play.history[kind])
	switch {
	case a.suspended:
	case !a.lags:
		a.view.seen[kind] = head
	case a.play.random.IntN(3) == 0:
		a.view.seen[kind] += a.play.random.IntN(head - a.view.seen[kind] + 1)
	}
	if a.seesOwn {
		a.view.seen[kind] = max(a.view.seen[kind], a.view.own[kind])
	}
}

// inCache reports whether the manager's cache holds the object: it holds only rekey's own Secrets.
func inCache(o client.Object) bool {
	_, secret := o.(*corev1.Secret)
	return !secret || o.GetLabels()[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy
}

// stripped returns a copy without the parts that the cache drops.
func stripped(o client.Object) client.Object {
	out := copyOf(o)
	out.SetManagedFields(nil)
	if secret, ok := out.(*corev1.Secret); ok {
		_, _ = secretstore.StripMaterial(secret) // no error is possible here
	}
	return out
}

func copyOf(o client.Object) client.Object { return o.DeepCopyObject().(client.Object) }

// fill copies from into the object that into points to.
func fill(into, from client.Object) {
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from).Elem())
}
