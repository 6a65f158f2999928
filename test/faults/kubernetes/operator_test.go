// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// operator is rekey with its manager, started as in main.go, except for the lease.
type operator struct {
	stop     func()
	registry *prometheus.Registry

	mu     sync.Mutex
	errors int
	left   []string
}

// startOperator runs rekey for one namespace, on the API server of the configuration, until it is stopped.
func startOperator(t *testing.T, config *rest.Config, namespace string, engine database.Engine) *operator {
	t.Helper()
	return startOperatorIn(t, config, []string{namespace}, namespace, engine)
}

// startOperatorIn runs rekey for some namespaces, or for all if there are none, until it is stopped.
func startOperatorIn(t *testing.T, config *rest.Config, namespaces []string, operatorNamespace string, engine database.Engine) *operator {
	t.Helper()
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{registry: prometheus.NewRegistry()}
	log := funcr.NewJSON(func(line string) {
		if strings.Contains(line, `"remains":`) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.left = append(o.left, line)
		}
		if strings.Contains(line, `"error":`) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.errors++
		}
	}, funcr.Options{})
	config = rest.CopyConfig(config)
	apiClock := kube.NewAPIClock(clock.RealClock{})
	rights := access.New(clock.RealClock{})
	config.Wrap(apiClock.Wrap)
	config.Wrap(rights.Wrap)
	config.QPS = -1
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Logger: log, Cache: controllers.CacheOptions(namespaces, operatorNamespace, rights),
		Client:     client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = controllers.Setup(t.Context(), mgr, controllers.Options{
		Namespaces: namespaces, OperatorNamespace: operatorNamespace, Workers: 8, Clock: clock.RealClock{}, Skew: apiClock.Off, AllowLoopback: true,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: engine}, Issuers: fixture.Issuers(), Registry: o.registry, Rights: rights,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	o.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(o.stop)
	return o
}

func (o *operator) errorLines() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.errors
}

const patience = 2 * time.Minute

// until waits until a condition holds, by the wall clock.
func until(t *testing.T, holds func() bool, otherwise func() string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); time.Since(started) < patience; <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatal(otherwise())
}

// untilHealthy waits until the objects are in order; it retries failed reads.
func untilHealthy(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		until(t, func() bool {
			return c.Get(t.Context(), client.ObjectKeyFromObject(o), o) == nil && healthy(o) && fixture.ObservedGeneration(o) == o.GetGeneration()
		}, func() string { return world.KindOf(o) + " " + o.GetName() + " is not healthy:" + describe(o) })
	}
}
