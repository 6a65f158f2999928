// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/eventrecorder"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
)

// checkTimeout is the timeout of one check of a server.
const checkTimeout = 30 * time.Second

// serverReconciler checks database servers regularly and reports what they lack. It changes nothing on them.
type serverReconciler struct {
	shared
	failures serverFailures
}

// serverFailures records each server's last failure, and how many times in a row it rejected the admin's password: retries at a
// constant pace could lock the admin out. After any other failure the server is checked again every lifecycle.RecheckBroken.
type serverFailures struct {
	mu    sync.Mutex
	known map[types.NamespacedName]serverFailure
}

type serverFailure struct {
	inputs string
	count  int
	next   time.Time
	err    error
}

// waiting returns the failure whose wait is not over; nil if the server may be checked.
func (f *serverFailures) waiting(of types.NamespacedName, inputs string, now time.Time) *serverFailure {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.known[of]
	if !ok || known.inputs != inputs || !now.Before(known.next) {
		return nil
	}
	return &known
}

// note records the result of a check.
func (f *serverFailures) note(of types.NamespacedName, inputs string, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.known, of)
		return
	}
	known := f.known[of]
	if known.inputs != inputs {
		known = serverFailure{inputs: inputs}
	}
	known.err, known.next = err, now.Add(lifecycle.RecheckBroken)
	if fault.ReasonOf(err, "") == fault.AdminRejected {
		known.count++
		known.next = now.Add(max(lifecycle.RecheckBroken, rotation.Backoff(known.count, rotation.Urgency{Published: true})))
	}
	if f.known == nil {
		f.known = map[types.NamespacedName]serverFailure{}
	}
	f.known[of] = known
}

func (f *serverFailures) forget(of types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.known, of)
}

// Reconcile implements reconcile.Reconciler.
func (r *serverReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.DatabaseServer{}
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, gone(err, func() { r.failures.forget(request.NamespacedName) })
	}
	if !object.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	before := object.DeepCopy()
	return r.report(ctx, before, object, r.observe(ctx, object))
}

func (r *serverReconciler) observe(ctx context.Context, object *v1alpha1.DatabaseServer) report.Facts {
	found := report.Facts{
		Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing,
		WakeAt: r.clock.Now().Add(lifecycle.RecheckHealthy),
	}
	engine, err := r.engineOf(object.Spec.Engine)
	var checked database.Report
	if err == nil {
		checked, err = r.check(ctx, engine, object)
	}
	if err != nil {
		found.Ready, found.Reason = metav1.ConditionFalse, ""
		found.Cause = report.NewFailure(err, fault.ServerUnreachable)
		return found
	}
	object.Status.ServerVersion = eventrecorder.Bounded(checked.Version, 64)
	found.Message = fmt.Sprintf("%s %s at %s is reachable and writable over the TLS mode in spec.tls, and accepts the admin login.",
		engine.Info().Name, cmp.Or(checked.Version, "of unknown version"), object.Spec.Address)
	if len(checked.Notes) > 0 {
		found.Message += " Note: " + strings.Join(checked.Notes, " ")
	}
	return found
}

func (r *serverReconciler) check(ctx context.Context, engine database.Engine, object *v1alpha1.DatabaseServer) (database.Report, error) {
	server, _, err := r.resolveServer(ctx, object)
	if err != nil {
		return database.Report{}, err
	}
	// A ConfigMap cannot be watched. This status can, and wakes the credentials that publish the certificates.
	object.Status.CASHA256 = ""
	if server.CA != nil {
		object.Status.CASHA256 = textHash(string(server.CA))
	}
	server.Credentials = r.credentials(ctx, object)
	name, inputs, now := client.ObjectKeyFromObject(object), serverDigest(object, server, fmt.Sprint(object.Generation)), r.clock.Now()
	if waiting := r.failures.waiting(name, inputs, now); waiting != nil {
		return database.Report{}, waiting.err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	checked, err := engine.Check(ctx, server)
	r.failures.note(name, inputs, err, now)
	return checked, err
}

// credentials returns the engine's blocks of the credentials on this server, without duplicates. It returns none if they cannot be
// listed: most servers can be checked without them.
func (r *serverReconciler) credentials(ctx context.Context, object *v1alpha1.DatabaseServer) [][]byte {
	var list v1alpha1.DatabaseCredentialList
	if err := r.client.List(ctx, &list, client.InNamespace(object.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).V(1).Info("The credentials of a server are unknown", "error", err.Error())
		return nil
	}
	var out [][]byte
	for i := range list.Items {
		one := &list.Items[i].Spec
		if string(one.ServerRef.Name) != object.Name || one.Engine() != object.Spec.Engine {
			continue
		}
		if settings, err := engineSettings(one.EngineSettings()); err == nil && settings != nil {
			out = append(out, settings)
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal)
}
