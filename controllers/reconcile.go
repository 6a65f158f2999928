// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/report"
)

const (
	// reconcileTimeout limits one reconcile. A remote call has less, so that a hung server leaves time to report.
	reconcileTimeout = 2 * time.Minute
)

// shared is what all controllers have in common.
type shared struct {
	// client reads from the cache and sees its own writes. live reads from the API server, and writes what is not cached.
	client client.Client
	live   client.Client
	clock  clock.PassiveClock
	// reporter writes statuses and emits Events.
	reporter    *report.Reporter
	driver      *lifecycle.Driver
	authorities *authorities
	names       *uidNames
	// rights tracks what the API server refuses.
	rights *access.Rights
	// kinds is the table of all kinds.
	kinds kinds
	// secrets tracks our writes of published certificates.
	secrets *kube.SelfWriteFilter
	// newObjects tracks objects without a Secret; if it is nil, the Secret is looked up every time.
	newObjects *kube.NewObjects
	// engines by their name in the API; cluster identifies this cluster.
	engines       map[v1alpha1.Engine]database.Engine
	allowLoopback bool
	cluster       *kube.ClusterID
}

// errGone and errChanged mean that nothing is done for what only the cache still shows. They end a reconcile like a lost write.
var (
	errGone    = lifecycle.Conflict(errors.New("the object is gone, or being deleted"))
	errChanged = lifecycle.Conflict(errors.New("the object was changed since it was read"))
)

// gone drops what is remembered of an object if err means that it does not exist. Any other error says nothing about the
// object, so failures and proofs are kept.
func gone(err error, forget func()) error {
	if apierrors.IsNotFound(err) {
		forget()
	}
	return client.IgnoreNotFound(err)
}

// present checks live that the object still exists. now is an empty object of its kind, and is filled. A cache can show an
// object that was deleted and recreated long ago.
func (s *shared) present(ctx context.Context, object, now client.Object) error {
	key := client.ObjectKeyFromObject(object)
	err := s.live.Get(ctx, key, now)
	switch {
	case apierrors.IsNotFound(err), err == nil && now.GetUID() != object.GetUID():
		return errGone
	case err != nil:
		return refusal.Fault(fmt.Sprintf("reading the object %s live", key), err, nil)
	}
	return nil
}

// stillWanted checks live that the object exists and is not being deleted.
func (s *shared) stillWanted(ctx context.Context, object, now client.Object) error {
	err := s.present(ctx, object, now)
	if err == nil && !now.GetDeletionTimestamp().IsZero() {
		return errGone
	}
	return err
}

// unchanged checks live that the object still requests the same material as the cached one.
func (s *shared) unchanged(ctx context.Context, object, now client.Object) error {
	if err := s.stillWanted(ctx, object, now); err != nil {
		return err
	}
	for _, request := range []string{v1alpha1.AnnotationRotate, v1alpha1.AnnotationRetirePrevious, v1alpha1.AnnotationTakeOverFrom} {
		if object.GetAnnotations()[request] != now.GetAnnotations()[request] {
			return errChanged
		}
	}
	if object.GetGeneration() != now.GetGeneration() {
		return errChanged
	}
	return nil
}

// uninterrupted lets a running reconcile finish when the manager stops or loses its lease: nothing is interrupted halfway, and
// no false failure is reported. The manager waits for it, within limits; if it is cut off anyway, the next process continues.
type uninterrupted struct {
	reconcile.Reconciler
}

// Reconcile implements reconcile.Reconciler.
func (f uninterrupted) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reconcileTimeout)
	defer cancel()
	return f.Reconciler.Reconcile(ctx, request)
}

// uidNames remembers each object's UID, so that what is remembered under it can be dropped when the object is gone.
type uidNames struct {
	known sync.Map
}

func nameOf(object client.Object, request ctrl.Request) string {
	return fmt.Sprintf("%T %s", object, request.NamespacedName)
}

// noteUID drops what is remembered of an earlier object of that name whose deletion no reconcile saw.
func (n *uidNames) noteUID(memory *lifecycle.Attempts, object client.Object, request ctrl.Request) {
	uid := string(object.GetUID())
	if before, ok := n.known.Swap(nameOf(object, request), uid); ok && before != uid {
		memory.Forget(before.(string)) //nolint:forcetypeassert // only strings are stored
	}
}

// forgetUID drops what is remembered of an object that is gone.
func (n *uidNames) forgetUID(memory *lifecycle.Attempts, object client.Object, request ctrl.Request) {
	if known, ok := n.known.LoadAndDelete(nameOf(object, request)); ok {
		memory.Forget(known.(string)) //nolint:forcetypeassert // only strings are stored
	}
}

// report reports what was found, and returns how soon the object is reconciled again.
func (s *shared) report(ctx context.Context, before, after v1alpha1.Object, found report.Facts) (ctrl.Result, error) {
	if found.Cause == nil && found.Ready != "" {
		found.Cause = s.seenLate(after)
	}
	found.Pace = func(reason string, now time.Time) time.Duration {
		return s.driver.Attempts.Pace(string(after.GetUID()), reason, now)
	}
	return s.reporter.Report(ctx, before, after, found)
}

// count counts what a reconcile of a credential did.
func (s *shared) count(kind string, outcome lifecycle.Outcome) {
	var failed error
	if outcome.Tried {
		failed = outcome.Err
	}
	s.reporter.Metrics.Count(kind, outcome.Performed, outcome.FailedStep, failed)
}

// seenLate returns a failure if changes are seen late because a cache may not be filled; nil otherwise. Everything else continues.
func (s *shared) seenLate(object v1alpha1.Object) *report.Failure {
	for _, kind := range s.kinds.kube().Watched(object) {
		if missing, blind := s.rights.Blind(kind, object.GetNamespace()); blind {
			return &report.Failure{Class: fault.ClassBlocked, Reason: string(fault.Forbidden), Message: fmt.Sprintf(
				"changes are noticed late, within five minutes: %s", missing.Text())}
		}
	}
	return nil
}
