// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

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

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/secretstore"
)

func authorityNamed(kind v1alpha1.AuthorityKind) func(client.Object) string {
	return func(object client.Object) string {
		identity, ok := object.(v1alpha1.IdentityObject)
		if !ok || identity.GetIdentitySpec().AuthorityRef.Kind != kind {
			return ""
		}
		return string(identity.GetIdentitySpec().AuthorityRef.Name)
	}
}

// policyNamed gives the policy that an object of any kind uses.
func policyNamed(object client.Object) string {
	if user, ok := object.(v1alpha1.PolicyUser); ok && user.GetRotationPolicyRef() != nil {
		return string(user.GetRotationPolicyRef().Name)
	}
	return ""
}

// specOrRequest passes what may change a decision: the spec, a deletion, an annotation. Our own status writes do not.
var specOrRequest = predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{},
	predicate.NewPredicateFuncs(func(o client.Object) bool { return !o.GetDeletionTimestamp().IsZero() }))

var labelsChanged = predicate.LabelChangedPredicate{}

// ownerOf wakes the object that a Secret says it belongs to.
func ownerOf(kind string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, secret client.Object) []reconcile.Request {
		if owner, name, ok := secretstore.OwnerOf(secret); ok && owner == kind {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: secret.GetNamespace(), Name: name}}}
		}
		return nil
	})
}

func clusterOwnerOf(kind string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, secret client.Object) []reconcile.Request {
		if owner, name, ok := secretstore.OwnerOf(secret); ok && owner == kind {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
		}
		return nil
	})
}

// waker finds by index who refers to an object that changed.
type waker struct {
	indexes
	// namespaces that are cached; empty for all.
	namespaces []string
}

// users of a namespaced object, in its namespace.
func (w waker) users(kind client.Object, index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		return w.requests(ctx, kind, index, indexed(object.GetNamespace(), object.GetName()))
	})
}

// clusterUsers of a cluster-wide object, in all namespaces.
func (w waker) clusterUsers(kind client.Object, index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		return w.requests(ctx, kind, index, object.GetName())
	})
}

// inNamespace wakes everything in a namespace whose labels changed: a cluster-wide authority may admit it now, or no more.
func (w waker) inNamespace(kind client.Object) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		if len(w.namespaces) > 0 && !slices.Contains(w.namespaces, object.GetName()) {
			return nil
		}
		return w.requests(ctx, kind, toolscache.NamespaceIndex, object.GetName())
	})
}

// whenGranted wakes everything of a kind in a namespace in which a right came back, and everything there is where it was
// missing in the whole cluster.
func (w waker) whenGranted(kind client.Object, rights *access.Rights) source.Source {
	return source.Func(func(_ context.Context, q queue) error {
		if rights == nil {
			return nil
		}
		rights.OnReturn(func(ctx context.Context, namespace string) {
			for _, request := range w.everything(ctx, kind, namespace) {
				q.Add(request)
			}
		})
		return nil
	})
}

// everything of a kind in a namespace; an empty namespace is the whole cluster.
func (w waker) everything(ctx context.Context, kind client.Object, namespace string) []reconcile.Request {
	if _, clusterWide := kind.(*v1alpha1.ClusterCertificateAuthority); clusterWide {
		namespace = ""
	}
	keys, err := w.list(ctx, kind, toolscache.NamespaceIndex, namespace)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding who waits for a right failed; they look again within minutes")
		return nil
	}
	out := make([]reconcile.Request, 0, len(keys))
	for _, key := range keys {
		out = append(out, reconcile.Request{NamespacedName: key})
	}
	return out
}

func (w waker) requests(ctx context.Context, kind client.Object, index, value string) []reconcile.Request {
	keys, err := w.find(ctx, kind, index, value)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Finding who uses a changed object failed; they look again within an hour")
		return nil
	}
	out := make([]reconcile.Request, 0, len(keys))
	for _, key := range keys {
		out = append(out, reconcile.Request{NamespacedName: key})
	}
	return out
}

// policyOf wakes the policy that an object uses, when the object comes, goes or names another one. The count in the
// policy's status may lag: many objects at once are one write.
type policyOf struct{}

const policyCountLag = 5 * time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Create implements handler.EventHandler.
func (policyOf) Create(_ context.Context, e event.CreateEvent, q queue) { wakePolicy(e.Object, q) }

// Update implements handler.EventHandler.
func (policyOf) Update(_ context.Context, e event.UpdateEvent, q queue) {
	if policyNamed(e.ObjectOld) != policyNamed(e.ObjectNew) {
		wakePolicy(e.ObjectOld, q)
		wakePolicy(e.ObjectNew, q)
	}
}

// Delete implements handler.EventHandler.
func (policyOf) Delete(_ context.Context, e event.DeleteEvent, q queue) { wakePolicy(e.Object, q) }

// Generic implements handler.EventHandler.
func (policyOf) Generic(_ context.Context, e event.GenericEvent, q queue) { wakePolicy(e.Object, q) }

func wakePolicy(object client.Object, q queue) {
	if name := policyNamed(object); name != "" {
		q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}, policyCountLag)
	}
}
