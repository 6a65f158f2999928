// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/report"
)

// Harness runs the controllers without a manager: its owner decides when an object is reconciled, and
// through which clients. The tests under test/ use it; a Harness that is dropped is a process that died.
type Harness struct {
	shared shared
	// made holds the reconcilers by kind: like a manager's, they keep their memory between reconciles.
	made *sync.Map
}

// NewHarness returns controllers that have seen nothing yet. The cached client may be the live one.
func NewHarness(cached, live client.Client, recorder events.EventRecorder, options Options) Harness {
	s := newShared(cached, live, recorder, options, allKinds())
	registry := options.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	s.reporter.Metrics = report.NewMetrics(registry, options.APIClock.Off, options.Version)
	return Harness{shared: s, made: &sync.Map{}}
}

// Reconcile reconciles the object of that type and name once. Only the type of object is used.
func (p Harness) Reconcile(ctx context.Context, object client.Object, key client.ObjectKey) (ctrl.Result, error) {
	reconciler := p.shared.reconcilerOf(object)
	if reconciler == nil {
		return ctrl.Result{}, fmt.Errorf("reconciling %s: no controller for %T", key, object)
	}
	kept, _ := p.made.LoadOrStore(fmt.Sprintf("%T", object), uninterrupted{reconciler})
	return kept.(uninterrupted).Reconcile(ctx, ctrl.Request{NamespacedName: key}) //nolint:forcetypeassert // only these are stored
}
