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
	// passTimeout of one reconcile. A remote call has less, so that a hung server leaves time to report.
	passTimeout = 2 * time.Minute
)

// shared is what all controllers have in common.
type shared struct {
	// client reads from the cache and sees its own writes. live reads from the API server, and writes what is not cached.
	client client.Client
	live   client.Client
	clock  clock.PassiveClock
	// reporter writes statuses, and emits Events.
	reporter    *report.Reporter
	driver      *lifecycle.Driver
	authorities *authorities
	names       *uidNames
	// rights are what the API server refuses.
	rights *access.Rights
	// kinds are all that are served.
	kinds kinds
	// secrets are the writes of published certificates.
	secrets *kube.SelfWriteFilter
	// newObjects are believed to have no Secret yet; nil looks each time.
	newObjects *kube.NewObjects
	// engines by their name in the API; cluster says which cluster this is.
	engines       map[v1alpha1.Engine]database.Engine
	allowLoopback bool
	cluster       *kube.ClusterID
}

// errGone and errChanged are why nothing is done for what the cache still shows. They end a pass as a refused write does.
var (
	errGone    = lifecycle.Conflict(errors.New("the object is gone, or being deleted"))
	errChanged = lifecycle.Conflict(errors.New("the object was changed since it was read"))
)

// gone forgets what is remembered of an object, where the error says that it is gone. Any other error says nothing about it:
// what was learned of failures and proofs still holds.
func gone(err error, forget func()) error {
	if apierrors.IsNotFound(err) {
		forget()
	}
	return client.IgnoreNotFound(err)
}

// present looks live whether the object is there still; now is an empty one of its kind, and is filled. A cache can show an
// object that was deleted, and made again, long ago.
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

// stillWanted looks live whether the object is there and not being deleted.
func (s *shared) stillWanted(ctx context.Context, object, now client.Object) error {
	err := s.present(ctx, object, now)
	if err == nil && !now.GetDeletionTimestamp().IsZero() {
		return errGone
	}
	return err
}

// unchanged looks live whether the object says what the cached one says, as far as it asks for material.
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

// uninterrupted lets a pass that has begun come to its end when the manager stops or loses its lease: what was begun is not
// broken off in the middle, and nobody is told of a failure that is none. The manager waits for it, within bounds; what is
// cut off all the same is taken up again by the next process.
type uninterrupted struct {
	reconcile.Reconciler
}

// Reconcile implements reconcile.Reconciler.
func (f uninterrupted) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
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

// note forgets what is remembered of an earlier object of that name, whose deletion no pass saw.
func (n *uidNames) noteUID(memory *lifecycle.Attempts, object client.Object, request ctrl.Request) {
	uid := string(object.GetUID())
	if before, ok := n.known.Swap(nameOf(object, request), uid); ok && before != uid {
		memory.Forget(before.(string)) //nolint:forcetypeassert // only strings are stored
	}
}

// forget forgets what is remembered of an object that is gone.
func (n *uidNames) forgetUID(memory *lifecycle.Attempts, object client.Object, request ctrl.Request) {
	if known, ok := n.known.LoadAndDelete(nameOf(object, request)); ok {
		memory.Forget(known.(string)) //nolint:forcetypeassert // only strings are stored
	}
}

// report reports what was found of an object, and how soon it is reconciled again.
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

// seenLate returns that changes are seen late, because a cache may not be filled; nil if it may. Everything else goes on.
func (s *shared) seenLate(object v1alpha1.Object) *report.Failure {
	for _, kind := range s.kinds.kube().Watched(object) {
		if missing, blind := s.rights.Blind(kind, object.GetNamespace()); blind {
			return &report.Failure{Class: fault.ClassBlocked, Reason: string(fault.Forbidden), Message: fmt.Sprintf(
				"changes are seen late, at most five minutes afterwards: %s", missing.Text())}
		}
	}
	return nil
}
