// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Passes are the controllers without a manager: whoever holds them decides when a pass is made, over which object, and
// through which clients. The proofs under test/ use them; throwing them away is what the death of a process leaves.
type Passes struct {
	shared shared
	// made are the reconcilers by kind: like a manager's, they remember from pass to pass.
	made *sync.Map
}

// NewPasses makes controllers that have seen nothing yet. The cached client may be the live one.
func NewPasses(cached, live client.Client, recorder events.EventRecorder, options Options) Passes {
	s := newShared(cached, live, recorder, options)
	registry := options.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	s.metrics = newMetrics(registry, options.APIClock, options.Version)
	return Passes{shared: s, made: &sync.Map{}}
}

// Reconcile makes one pass over the object of that type and name. The object is only read for its type.
func (p Passes) Reconcile(ctx context.Context, object client.Object, key client.ObjectKey) (ctrl.Result, error) {
	reconciler := p.shared.reconcilerOf(object)
	if reconciler == nil {
		return ctrl.Result{}, fmt.Errorf("making a pass over %s: no controller is for %T", key, object)
	}
	kept, _ := p.made.LoadOrStore(fmt.Sprintf("%T", object), finishing{reconciler})
	return kept.(finishing).Reconcile(ctx, ctrl.Request{NamespacedName: key}) //nolint:forcetypeassert // only these are stored
}

// reconcilerOf gives the controller of a kind, nil where there is none.
func (s *shared) reconcilerOf(object client.Object) reconcile.Reconciler {
	switch object.(type) {
	case *v1alpha1.CertificateAuthority:
		return &authorityReconciler{*s, v1alpha1.AuthorityKindNamespaced, func() v1alpha1.AuthorityObject { return &v1alpha1.CertificateAuthority{} }}
	case *v1alpha1.ClusterCertificateAuthority:
		return &authorityReconciler{*s, v1alpha1.AuthorityKindCluster, func() v1alpha1.AuthorityObject { return &v1alpha1.ClusterCertificateAuthority{} }}
	case *v1alpha1.ClientIdentity:
		return &identityReconciler{*s, kindClientIdentity, func() v1alpha1.IdentityObject { return &v1alpha1.ClientIdentity{} }}
	case *v1alpha1.ServerIdentity:
		return &identityReconciler{*s, kindServerIdentity, func() v1alpha1.IdentityObject { return &v1alpha1.ServerIdentity{} }}
	case *v1alpha1.DatabaseServer:
		return &serverReconciler{shared: *s}
	case *v1alpha1.DatabaseCredential:
		return &credentialReconciler{shared: *s}
	case *v1alpha1.RotationPolicy:
		return &policyReconciler{shared: *s}
	}
	return nil
}

// Seen notes how far the clock of the API server is ahead of ours, as an answer of it would: for callers whose clock is not
// that of the wall.
func (c *APIClock) Seen(ahead time.Duration) {
	now := c.clock.Now()
	c.note(now, now, now.Add(ahead))
}
