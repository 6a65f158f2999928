// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command rekey is the operator: it issues and renews certificates, rotates database passwords, proves each new
// credential before it is published, and warns before anything expires.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/flags"
	"github.com/rekey/rekey/internal/gcpace"
	"github.com/rekey/rekey/internal/instrument"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/metricsauth"
	"github.com/rekey/rekey/internal/netguard"
)

// version is set by the linker.
var version = "dev"

// headroom is how much is allocated between two garbage collections (docs/design/0008).
const headroom = 30 << 20

// gracefulStop bounds how long running reconciles may take to finish.
const gracefulStop = 25 * time.Second

// flushTime bounds how long Events are still written after everything else has stopped.
const flushTime = 3 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rekey:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	set, err := flags.Parse(arguments)
	if err != nil {
		return err
	}
	if set.ShowVersion {
		fmt.Println("rekey", version)
		return nil
	}
	ctrl.SetLogger(zap.New(zap.UseDevMode(false), zap.Level(set.LogLevel))) // JSON lines, client-go's too
	gcpace.Keep(headroom)
	wall := clock.RealClock{}
	apiClock := kube.NewAPIClock(wall)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	rights := access.New(wall)
	config.Wrap(apiClock.Wrap)
	config.Wrap(rights.Wrap)
	config.Wrap(kube.BoundAnswers)
	config.QPS, config.Burst = set.QPS, int(2*set.QPS)
	config.UserAgent = "rekey/" + version
	hooks, err := instrument.Install(config)
	if err != nil {
		return err
	}
	options, err := managerOptions(set, rights)
	if err != nil {
		return err
	}
	setup := controllers.Options{
		Namespaces: set.Namespaces, OperatorNamespace: set.OperatorNamespace, Workers: set.Workers, Clock: wall, Skew: apiClock.Off, AllowLoopback: set.AllowLoopback,
		Version: version, Rights: rights, Engines: map[v1alpha1.Engine]database.Engine{
			v1alpha1.EnginePostgreSQL: hooks.Engine(postgres.New(postgres.Options{Dialer: &netguard.Dialer{}, Tracer: hooks.Tracer})),
		},
		Issuers: map[v1alpha1.AuthorityType]issuer.Opener{
			v1alpha1.AuthorityTypeManaged: hooks.Issuer(ca.Managed{}),
			v1alpha1.AuthorityTypeKeyPair: hooks.Issuer(ca.KeyPair{}),
		},
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return fmt.Errorf("creating the manager: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	flush, err := controllers.Setup(ctx, mgr, setup)
	if err != nil {
		return err
	}
	if err := addProbes(mgr, set.OperatorNamespace, rights); err != nil {
		return err
	}
	ctrl.Log.Info("Starting", "version", version, "namespaces", set.Namespaces, "operatorNamespace", set.OperatorNamespace)
	err = mgr.Start(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	flush(last)
	return err
}

func managerOptions(set flags.Values, rights *access.Rights) (ctrl.Options, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return ctrl.Options{}, fmt.Errorf("registering the kinds: %w", err)
	}
	return ctrl.Options{
		Scheme:  scheme,
		Cache:   controllers.CacheOptions(set.Namespaces, set.OperatorNamespace, rights),
		Client:  client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}, FieldOwner: "rekey"},
		Metrics: metricsserver.Options{BindAddress: set.MetricsAddress, SecureServing: true, FilterProvider: metricsauth.New(clock.RealClock{})},

		HealthProbeBindAddress:        set.ProbeAddress,
		LeaderElection:                set.LeaderElect,
		LeaderElectionID:              "rekey.rekey.dev",
		LeaderElectionNamespace:       set.OperatorNamespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       new(gracefulStop),
	}, nil
}

// addProbes adds a liveness probe, and a readiness probe that passes once the caches are filled.
func addProbes(mgr manager.Manager, operatorNamespace string, rights *access.Rights) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health probe: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", kube.CachesFilled(mgr.GetCache(), operatorNamespace, rights)); err != nil {
		return fmt.Errorf("adding the readiness probe: %w", err)
	}
	return nil
}
