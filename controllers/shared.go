// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend"
)

const (
	// passTimeout of one reconcile. A remote call has less, so that a hung server leaves time to report.
	passTimeout = 2 * time.Minute
	// withdrawPatience is how long a deleted object waits for a remote end that cannot be reached.
	withdrawPatience = 10 * time.Minute
)

// shared is what all controllers have in common.
type shared struct {
	// client reads from the cache and sees its own writes. live reads from the API server, and writes what is not cached.
	client client.Client
	live   client.Client
	clock  clock.PassiveClock
	// recorder tells Events.
	recorder    events.EventRecorder
	rotator     *Rotator
	authorities *authorities
	metrics     *metrics
	names       *uidNames
	// secrets are the writes of published certificates.
	secrets *ownWrites
	// fresh objects are believed to have no Secret yet; nil looks each time.
	fresh *fresh
	// backends by engine; cluster says which cluster this is.
	backends      map[v1alpha1.Engine]backend.Backend
	allowLoopback bool
	cluster       *clusterID
}

// finishing lets a pass that has begun come to its end when the manager stops or loses its lease: what was begun is not
// broken off in the middle, and nobody is told of a failure that is none. The manager waits for it, within bounds; what is
// cut off all the same is taken up again by the next process.
type finishing struct {
	reconcile.Reconciler
}

// Reconcile implements reconcile.Reconciler.
func (f finishing) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), passTimeout)
	defer cancel()
	return f.Reconciler.Reconcile(ctx, request)
}

// uidNames remembers which UID an object had, so that what is remembered of it can be forgotten when it is gone.
type uidNames struct {
	known sync.Map
}

func nameOf(object client.Object, request ctrl.Request) string {
	return fmt.Sprintf("%T %s", object, request.NamespacedName)
}

func (n *uidNames) note(object client.Object, request ctrl.Request) {
	n.known.Store(nameOf(object, request), string(object.GetUID()))
}

// forget gives the UID that the object had, empty where that is not known.
func (n *uidNames) forget(memory *Memory, object client.Object, request ctrl.Request) types.UID {
	known, ok := n.known.LoadAndDelete(nameOf(object, request))
	if !ok {
		return ""
	}
	uid := known.(string) //nolint:forcetypeassert // only strings are stored
	memory.Forget(uid)
	return types.UID(uid)
}
