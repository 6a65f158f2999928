// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/secretstore"
)

// SpecOrRequest passes changes that may affect a decision: of the spec, a deletion timestamp or an annotation. Our own status
// writes do not.
var SpecOrRequest = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{},
	predicate.NewPredicateFuncs(func(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() }))

// LabelsChanged passes changed labels.
var LabelsChanged = predicate.LabelChangedPredicate{}

// EnqueueOwner enqueues the object of the kind that a Secret names as its owner.
func EnqueueOwner(kind Kind) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, secret client.Object) []reconcile.Request {
		owner, name, ok := secretstore.OwnerOf(secret)
		if !ok || owner != kind.Name {
			return nil
		}
		key := types.NamespacedName{Namespace: secret.GetNamespace(), Name: name}
		if kind.ClusterScoped {
			key.Namespace = ""
		}
		return []reconcile.Request{{NamespacedName: key}}
	})
}

// Enqueuer enqueues, by index, the objects that refer to a changed object.
type Enqueuer struct {
	Indexes
	// Namespaces that are cached; empty for all.
	Namespaces []string
}

// Users enqueues the objects of the kind that refer to an object: those in its namespace, or all if the object has no namespace.
func (e Enqueuer) Users(kind Kind, reference Reference) handler.EventHandler {
	to, _ := e.kinds.Named(reference.To)
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		value := object.GetName()
		if !to.ClusterScoped {
			value = indexed(object.GetNamespace(), value)
		}
		return e.requests(ctx, kind, reference.Index, value)
	})
}

// InNamespace enqueues all objects in a namespace whose labels changed: a cluster-wide authority may now admit it, or no longer.
func (e Enqueuer) InNamespace(kind Kind) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		if len(e.Namespaces) > 0 && !slices.Contains(e.Namespaces, object.GetName()) {
			return nil
		}
		return e.requests(ctx, kind, toolscache.NamespaceIndex, object.GetName())
	})
}

// WhenGranted enqueues all objects of a kind in a namespace in which a right was granted again, or in the whole cluster if the
// right was missing there.
func (e Enqueuer) WhenGranted(kind Kind, rights *access.Rights) source.Source {
	return source.Func(func(_ context.Context, q queue) error {
		if rights == nil {
			return nil
		}
		rights.OnReturn(func(ctx context.Context, namespace string) {
			for _, request := range e.everything(ctx, kind, namespace) {
				q.Add(request)
			}
		})
		return nil
	})
}

// everything returns requests for all objects of a kind in a namespace; an empty namespace is the whole cluster.
func (e Enqueuer) everything(ctx context.Context, kind Kind, namespace string) []reconcile.Request {
	if kind.ClusterScoped {
		namespace = ""
	}
	keys, err := e.list(ctx, kind.New(), toolscache.NamespaceIndex, namespace)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding the objects that wait for a right failed; they are reconciled again within minutes")
		return nil
	}
	return requestsFor(keys)
}

func (e Enqueuer) requests(ctx context.Context, kind Kind, index, value string) []reconcile.Request {
	keys, err := e.Find(ctx, kind.New(), index, value)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding the users of a changed object failed; they are reconciled again within an hour")
		return nil
	}
	return requestsFor(keys)
}

func requestsFor(keys []types.NamespacedName) []reconcile.Request {
	out := make([]reconcile.Request, 0, len(keys))
	for _, key := range keys {
		out = append(out, reconcile.Request{NamespacedName: key})
	}
	return out
}

// EnqueueUsed enqueues the object that another one refers to when the latter is created, is deleted or changes its reference.
// The count of users in a status may lag, so that many objects at once cost one write.
func EnqueueUsed(reference Reference) handler.EventHandler { return usedEnqueuer{reference.Name} }

type usedEnqueuer struct{ name func(client.Object) string }

const countLag = 5 * time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Create implements handler.EventHandler.
func (u usedEnqueuer) Create(_ context.Context, e event.CreateEvent, q queue) { u.enqueue(e.Object, q) }

// Update implements handler.EventHandler.
func (u usedEnqueuer) Update(_ context.Context, e event.UpdateEvent, q queue) {
	if u.name(e.ObjectOld) != u.name(e.ObjectNew) {
		u.enqueue(e.ObjectOld, q)
		u.enqueue(e.ObjectNew, q)
	}
}

// Delete implements handler.EventHandler.
func (u usedEnqueuer) Delete(_ context.Context, e event.DeleteEvent, q queue) { u.enqueue(e.Object, q) }

// Generic implements handler.EventHandler.
func (u usedEnqueuer) Generic(_ context.Context, e event.GenericEvent, q queue) {
	u.enqueue(e.Object, q)
}

func (u usedEnqueuer) enqueue(object client.Object, q queue) {
	if name := u.name(object); name != "" {
		q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}, countLag)
	}
}
