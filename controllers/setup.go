// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/eventrecorder"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
)

// Options holds everything that the controllers need from outside.
type Options struct {
	// Namespaces to serve, besides the operator's; empty for all.
	Namespaces []string
	// OperatorNamespace holds the key pairs of cluster-wide authorities.
	OperatorNamespace string
	// Registry of the metrics; nil for the manager's.
	Registry prometheus.Registerer
	// Version of this build, for the metrics.
	Version string
	// Workers is the number of concurrent reconciles per controller.
	Workers int
	// Clock is the only clock.
	Clock clock.PassiveClock
	// Skew returns how far the API server's clock is ahead of the process's; known is false before that is known.
	Skew func() (ahead time.Duration, known bool)
	// Rights tracks what the API server refuses; the transport and the cache options use the same one. Nil if rights are not tracked.
	Rights *access.Rights
	// AllowLoopback allows connections to databases on loopback addresses.
	AllowLoopback bool
	// StepTimeout limits one step of a rotation; 0 for the default.
	StepTimeout time.Duration
	// Engines by their name in the API.
	Engines map[v1alpha1.Engine]database.Engine
	// Issuers by the member of the union in an authority's spec.
	Issuers map[v1alpha1.AuthorityType]issuer.Opener
}

// registry returns the registry of the metrics.
func (o Options) registry() prometheus.Registerer {
	if o.Registry == nil {
		return ctrlmetrics.Registry
	}
	return o.Registry
}

// cached returns the namespaces that the manager caches and serves; none for all.
func (o Options) cached() []string {
	if len(o.Namespaces) == 0 {
		return nil
	}
	return append(slices.Clone(o.Namespaces), o.OperatorNamespace)
}

// Setup adds every controller, index and watch to the manager. flush writes the remaining Events after the manager has stopped,
// until its context ends.
func Setup(ctx context.Context, mgr ctrl.Manager, options Options) (flush func(context.Context), err error) {
	return setup(ctx, mgr, options, allKinds())
}

func setup(ctx context.Context, mgr ctrl.Manager, options Options, of kinds) (flush func(context.Context), err error) {
	indexes, err := kube.NewIndexes(ctx, mgr.GetCache(), of.kube())
	if err != nil {
		return nil, err
	}
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, fmt.Errorf("creating the live client: %w", err)
	}
	recorder := eventrecorder.New(live, options.Clock, mgr.GetLogger(), "rekey")
	if err := mgr.Add(recorder); err != nil {
		return nil, fmt.Errorf("adding the recorder of Events: %w", err)
	}
	s := newShared(kube.RightsClient(mgr.GetClient(), live, options.Rights, of.kube()), live, recorder, options, of)
	s.newObjects = kube.TrackNewObjects(options.Rights)
	registry := options.registry()
	// The collector bypasses the client, which waits until the cache shows our own last writes: if that takes long, there would be
	// no metrics.
	if err := registry.Register(report.NewCollector(mgr.GetCache(), of.report())); err != nil {
		return nil, fmt.Errorf("registering the collector: %w", err)
	}
	if err := addRights(mgr, options.Rights, registry); err != nil {
		return nil, err
	}
	enqueuer := kube.Enqueuer{Indexes: indexes, Namespaces: options.cached()}
	return recorder.Flush, addControllers(mgr, s, enqueuer, controller.Options{MaxConcurrentReconciles: options.Workers})
}

// addRights makes the manager check again the rights that were refused.
func addRights(mgr ctrl.Manager, rights *access.Rights, registry prometheus.Registerer) error {
	if rights == nil {
		return nil
	}
	if err := rights.Connect(mgr.GetConfig(), mgr.GetHTTPClient(), mgr.GetLogger()); err != nil {
		return err
	}
	if err := registry.Register(rights); err != nil {
		return fmt.Errorf("registering the metric of missing rights: %w", err)
	}
	if err := mgr.Add(rights); err != nil {
		return fmt.Errorf("adding the watch over missing rights: %w", err)
	}
	return nil
}

func newShared(cached, live client.Client, recorder events.EventRecorder, options Options, of kinds) shared {
	cluster := kube.NewClusterID(live, options.Clock, options.Rights)
	return shared{
		kinds: of, client: cached, live: live, clock: options.Clock,
		reporter: &report.Reporter{Client: cached, Recorder: recorder, Clock: options.Clock, ConflictWait: lifecycle.ConflictWait, RetryWait: lifecycle.RecheckBroken,
			Metrics: report.NewMetrics(options.registry(), options.Skew, options.Version)},
		rights: options.Rights, engines: options.Engines, allowLoopback: options.AllowLoopback, cluster: cluster, names: &uidNames{}, secrets: kube.NewSelfWriteFilter(),
		driver: &lifecycle.Driver{Clock: options.Clock, Skew: options.Skew, Attempts: &lifecycle.Attempts{}, StepTimeout: cmp.Or(options.StepTimeout, lifecycle.DefaultStepTimeout)},
		authorities: &authorities{cached: cached, live: live, openers: options.Issuers, clock: options.Clock,
			operatorNamespace: options.OperatorNamespace, cluster: cluster, started: options.Clock.Now()},
	}
}

// Reconcilers returns the reconciler of every kind, by its name, for a program without a manager: it decides when an object is
// reconciled. The cached client may be the live one.
func Reconcilers(cached, live client.Client, recorder events.EventRecorder, options Options) map[string]reconcile.Reconciler {
	s := newShared(cached, live, recorder, options, allKinds())
	return s.reconcilers()
}

// reconcilers returns a new reconciler for every kind, by its name.
func (s *shared) reconcilers() map[string]reconcile.Reconciler {
	out := map[string]reconcile.Reconciler{}
	for _, kind := range s.kinds {
		out[kind.Name] = uninterrupted{kind.reconciler(*s)}
	}
	return out
}

// addControllers adds the controller of every kind, and what enqueues its objects.
func addControllers(mgr ctrl.Manager, s shared, enqueuer kube.Enqueuer, options controller.Options) error {
	reconcilers := s.reconcilers()
	for _, kind := range s.kinds {
		b := ctrl.NewControllerManagedBy(mgr).Named(strings.ToLower(kind.Name)).WithOptions(options).WatchesRawSource(enqueuer.WhenGranted(kind.Kind, s.rights))
		addWatches(b, s, enqueuer, kind.Kind)
		if err := b.Complete(reconcilers[kind.Name]); err != nil {
			return fmt.Errorf("adding the controller of %s: %w", kind.Name, err)
		}
	}
	return nil
}

// addWatches adds what enqueues the objects of a kind: the object, its Secrets, what it refers to, and what refers to it.
func addWatches(b *ctrl.Builder, s shared, enqueuer kube.Enqueuer, kind kube.Kind) {
	all := s.kinds.kube()
	own := []predicate.Predicate{kube.SpecOrRequest}
	var secrets []predicate.Predicate
	if kind.CachedSecret != nil {
		own = append([]predicate.Predicate{s.newObjects.Created()}, own...)
		secrets = append(secrets, s.secrets.Others(kind.Name))
	}
	b.For(kind.New(), builder.WithPredicates(own...))
	if kind.OwnsSecrets {
		b.Watches(&corev1.Secret{}, kube.EnqueueOwner(kind), builder.WithPredicates(secrets...))
	}
	for _, reference := range kind.References {
		if to, ok := all.Named(reference.To); ok && reference.SpecOnly {
			b.Watches(to.New(), enqueuer.Users(kind, reference), builder.WithPredicates(kube.SpecOrRequest))
		} else if ok {
			b.Watches(to.New(), enqueuer.Users(kind, reference))
		}
	}
	if kind.FollowsNamespace {
		b.Watches(&corev1.Namespace{}, enqueuer.InNamespace(kind), builder.WithPredicates(kube.LabelsChanged))
	}
	if !kind.CountsUsers {
		return
	}
	for _, user := range all.UsersOf(kind.Name) {
		for _, reference := range user.References {
			b.Watches(user.New(), kube.EnqueueUsed(reference))
		}
	}
}
