// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/fault"
)

// checkTimeout of one look at a server.
const checkTimeout = 30 * time.Second

// serverReconciler looks at database servers, now and then, and says what they lack. It changes nothing there.
type serverReconciler struct {
	shared
}

// Reconcile implements reconcile.Reconciler.
func (r *serverReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.DatabaseServer{}
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	before := object.DeepCopy()
	return r.report(ctx, before, object, r.look(ctx, object))
}

func (r *serverReconciler) look(ctx context.Context, object *v1alpha1.DatabaseServer) report {
	found := report{
		kind:   "DatabaseServer",
		reader: statusParts{&object.Status.Conditions, &object.Status.ObservedGeneration},
		ready:  metav1.ConditionTrue, reason: v1alpha1.ReasonServing,
		wakeAt: r.clock.Now().Add(lookAgainHealthy),
	}
	checked, err := r.check(ctx, object)
	if err != nil {
		found.ready, found.reason = metav1.ConditionFalse, ""
		found.cause = newTrouble(err, fault.ServerUnreachable)
		found.wakeAt = r.clock.Now().Add(lookAgainBroken)
		return found
	}
	object.Status.ServerVersion = bounded(checked.Version, 64)
	found.message = fmt.Sprintf("PostgreSQL %s at %s is reachable and writable, protected as spec.tls says, and accepts the admin login.",
		checked.Version, object.Spec.Address)
	if len(checked.Notes) > 0 {
		found.message += " To know: " + strings.Join(checked.Notes, " ")
	}
	return found
}

func (r *serverReconciler) check(ctx context.Context, object *v1alpha1.DatabaseServer) (backend.Report, error) {
	engine, err := r.backendOf(object.Spec.Engine)
	if err != nil {
		return backend.Report{}, err
	}
	server, _, err := r.resolveServer(ctx, object)
	if err != nil {
		return backend.Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report, err := engine.Check(ctx, server)
	if fault.ReasonOf(err, "") == fault.AdminRejected {
		err = fmt.Errorf("%w, %s/%s", err, object.Namespace, object.Spec.AdminSecretRef.Name)
	}
	return report, err
}
