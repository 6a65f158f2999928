// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command rekey is the operator: it issues and renews certificates, rotates database passwords, proves each of them before
// it is published, and warns before anything expires.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/gcpace"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/metricsauth"
	"github.com/rekey/rekey/internal/netguard"
)

// version is set by the linker.
var version = "dev"

// headroom is how much is allocated between two collections of garbage (docs/design/0008).
const headroom = 32 << 20

// gracefulStop is how long running reconciles may take to end.
const gracefulStop = 25 * time.Second

// flushTime is how long Events are still written when everything else has ended.
const flushTime = 3 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rekey:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	flags, err := parseFlags(arguments)
	if err != nil {
		return err
	}
	if flags.showVersion {
		fmt.Println("rekey", version)
		return nil
	}
	setLogger(flags.logLevel)
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
	config.QPS, config.Burst = flags.qps, int(2*flags.qps)
	config.UserAgent = "rekey/" + version
	options, err := managerOptions(flags, rights)
	if err != nil {
		return err
	}
	setup := controllers.Options{
		Namespaces: flags.namespaces, OperatorNamespace: flags.operatorNamespace, Workers: flags.workers, Clock: wall, APIClock: apiClock, AllowLoopback: flags.allowLoopback,
		Version: version, Rights: rights,
		Engines:  map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: postgres.New(postgres.Options{Dialer: &netguard.Dialer{}})},
		KeyPairs: ca.KeyPairs{},
	}
	if err := instrument(config, &setup); err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	flush, err := controllers.Setup(ctx, mgr, setup)
	if err != nil {
		return err
	}
	if err := addProbes(mgr, flags.operatorNamespace, rights); err != nil {
		return err
	}
	ctrl.Log.Info("Starting", "version", version, "namespaces", flags.namespaces, "operatorNamespace", flags.operatorNamespace)
	err = mgr.Start(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	flush(last)
	return err
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return scheme, v1alpha1.AddToScheme(scheme)
}

func managerOptions(flags options, rights *access.Rights) (ctrl.Options, error) {
	scheme, err := newScheme()
	if err != nil {
		return ctrl.Options{}, fmt.Errorf("registering the kinds: %w", err)
	}
	return ctrl.Options{
		Scheme:  scheme,
		Cache:   controllers.CacheOptions(flags.namespaces, flags.operatorNamespace, rights),
		Client:  client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}, FieldOwner: "rekey"},
		Metrics: metricsserver.Options{BindAddress: flags.metricsAddress, SecureServing: true, FilterProvider: metricsauth.New(clock.RealClock{})},

		HealthProbeBindAddress:        flags.probeAddress,
		LeaderElection:                flags.leaderElect,
		LeaderElectionID:              "rekey.rekey.dev",
		LeaderElectionNamespace:       flags.operatorNamespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       new(gracefulStop),
	}, nil
}

// addProbes says that the process lives, and that its caches are filled.
func addProbes(mgr manager.Manager, operatorNamespace string, rights *access.Rights) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health probe: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", kube.CachesFilled(mgr.GetCache(), operatorNamespace, rights)); err != nil {
		return fmt.Errorf("adding the readiness probe: %w", err)
	}
	return nil
}
