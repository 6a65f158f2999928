// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/eventlog"
	"github.com/rekey/rekey/internal/lifecycle"
)

// Setup adds every controller, index and watch to the manager. flush writes the Events that are left when the manager has
// ended, as long as its context lasts.
func Setup(ctx context.Context, mgr ctrl.Manager, options Options) (flush func(context.Context), err error) {
	found, err := newIndexes(ctx, mgr.GetCache(), mgr.GetScheme())
	if err != nil {
		return nil, err
	}
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, fmt.Errorf("making the live client: %w", err)
	}
	recorder := eventlog.New(live, options.Clock, mgr.GetLogger(), "rekey")
	if err := mgr.Add(recorder); err != nil {
		return nil, fmt.Errorf("adding the recorder of Events: %w", err)
	}
	s := newShared(sightedClient{mgr.GetClient(), live, options.Rights}, live, recorder, options)
	s.fresh = newFresh(options.Rights)
	registry := options.Registry
	if registry == nil {
		registry = ctrlmetrics.Registry
	}
	s.metrics = newMetrics(registry, options.APIClock, options.Version)
	// Past the client: it would wait for the cache to show our own last writes, and show no metrics where that takes long.
	if err := registry.Register(newCollector(mgr.GetCache())); err != nil {
		return nil, fmt.Errorf("registering the collector: %w", err)
	}
	if err := addRights(mgr, options.Rights, registry); err != nil {
		return nil, err
	}
	wake := waker{indexes: found, namespaces: options.cached()}
	return recorder.Flush, addControllers(mgr, s, wake, controller.Options{MaxConcurrentReconciles: options.Workers})
}

// addRights has the manager ask about rights that were refused.
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

func newShared(cached, live client.Client, recorder events.EventRecorder, options Options) shared {
	cluster := newClusterID(live, options.Clock, options.Rights)
	return shared{
		client: cached, live: live, clock: options.Clock, recorder: recorder,
		rights: options.Rights, engines: options.Engines, allowLoopback: options.AllowLoopback, cluster: cluster, names: &uidNames{}, secrets: newOwnWrites(),
		rotator: &lifecycle.Driver{Clock: options.Clock, Skew: options.APIClock.Off, Memory: &lifecycle.Memory{}, StepTimeout: cmp.Or(options.StepTimeout, lifecycle.DefaultStepTimeout)},
		authorities: &authorities{reader: cached, live: live, keyPairs: options.KeyPairs, clock: options.Clock,
			operatorNamespace: options.OperatorNamespace, cluster: cluster, started: options.Clock.Now()},
	}
}

// addControllers is the map of the program: what is kept, and what wakes it.
func addControllers(mgr ctrl.Manager, s shared, wake waker, options controller.Options) error {
	own := builder.WithPredicates(specOrRequest)
	named := func(name string, object client.Object, more ...predicate.Predicate) *ctrl.Builder {
		return ctrl.NewControllerManagedBy(mgr).Named(name).For(object, builder.WithPredicates(append(more, specOrRequest)...)).
			WatchesRawSource(wake.whenGranted(object, s.rights)).WithOptions(options)
	}
	newAuthority := func() client.Object { return &v1alpha1.CertificateAuthority{} }
	newClusterAuthority := func() client.Object { return &v1alpha1.ClusterCertificateAuthority{} }
	newClient := func() client.Object { return &v1alpha1.ClientIdentity{} }
	newServer := func() client.Object { return &v1alpha1.ServerIdentity{} }
	clients, servers, logins := newClient(), newServer(), &v1alpha1.DatabaseCredential{}
	for _, err := range []error{
		named("certificateauthority", newAuthority()).
			Watches(&corev1.Secret{}, ownerOf("CertificateAuthority")).
			Complete(finishing{s.reconcilerOf(newAuthority())}),
		named("clustercertificateauthority", newClusterAuthority()).
			Watches(&corev1.Secret{}, clusterOwnerOf("ClusterCertificateAuthority")).
			Complete(finishing{s.reconcilerOf(newClusterAuthority())}),
		named("clientidentity", newClient(), s.fresh.created()).
			Watches(&corev1.Secret{}, ownerOf(kindClientIdentity), builder.WithPredicates(s.secrets.others(kindClientIdentity))).
			Watches(newAuthority(), wake.users(clients, indexAuthority)).
			Watches(newClusterAuthority(), wake.clusterUsers(clients, indexClusterAuthority)).
			Watches(&corev1.Namespace{}, wake.inNamespace(clients), builder.WithPredicates(labelsChanged)).
			Watches(&v1alpha1.RotationPolicy{}, wake.users(clients, indexPolicy), own).
			Complete(finishing{s.reconcilerOf(newClient())}),
		named("serveridentity", newServer(), s.fresh.created()).
			Watches(&corev1.Secret{}, ownerOf(kindServerIdentity), builder.WithPredicates(s.secrets.others(kindServerIdentity))).
			Watches(newAuthority(), wake.users(servers, indexAuthority)).
			Watches(newClusterAuthority(), wake.clusterUsers(servers, indexClusterAuthority)).
			Watches(&corev1.Namespace{}, wake.inNamespace(servers), builder.WithPredicates(labelsChanged)).
			Watches(&v1alpha1.RotationPolicy{}, wake.users(servers, indexPolicy), own).
			Complete(finishing{s.reconcilerOf(newServer())}),
		named("databaseserver", &v1alpha1.DatabaseServer{}).
			Complete(finishing{s.reconcilerOf(&v1alpha1.DatabaseServer{})}),
		named("databasecredential", &v1alpha1.DatabaseCredential{}).
			Watches(&corev1.Secret{}, ownerOf(kindDatabaseCredential)).
			Watches(&v1alpha1.DatabaseServer{}, wake.users(logins, indexServer)).
			Watches(&v1alpha1.RotationPolicy{}, wake.users(logins, indexPolicy), own).
			Complete(finishing{s.reconcilerOf(&v1alpha1.DatabaseCredential{})}),
		named("rotationpolicy", &v1alpha1.RotationPolicy{}).
			Watches(newClient(), policyOf{}).Watches(newServer(), policyOf{}).Watches(&v1alpha1.DatabaseCredential{}, policyOf{}).
			Complete(finishing{s.reconcilerOf(&v1alpha1.RotationPolicy{})}),
	} {
		if err != nil {
			return fmt.Errorf("adding a controller: %w", err)
		}
	}
	return nil
}
