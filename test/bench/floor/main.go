// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rekey/rekey/api/v1alpha1"
)

// workers, as rekey has by default.
const workers = 20

func main() {
	// controller-runtime has defined --kubeconfig.
	probe := flag.String("health-probe-bind-address", "", "Address of /readyz.")
	flag.Parse()
	if err := run(*probe); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(probe string) error {
	ctrl.SetLogger(logr.Discard())
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: probe,
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return err
	}
	material, err := newMaterial()
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("floor").
		For(&v1alpha1.ClientIdentity{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&bare{client: mgr.GetClient(), material: material, recorder: mgr.GetEventRecorder("floor")})
	if err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

// bare writes and does nothing else.
type bare struct {
	client   client.Client
	recorder events.EventRecorder
	material *material
}

// Reconcile implements reconcile.Reconciler.
func (b *bare) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	identity := &v1alpha1.ClientIdentity{}
	if err := b.client.Get(ctx, request.NamespacedName, identity); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if meta.IsStatusConditionTrue(identity.Status.Conditions, v1alpha1.ConditionReady) {
		return ctrl.Result{}, nil
	}
	if err := b.client.Create(ctx, b.secret(identity)); err != nil {
		return ctrl.Result{}, err
	}
	identity.Status = b.status(identity)
	if err := b.client.Status().Update(ctx, identity); err != nil {
		return ctrl.Result{}, err
	}
	b.recorder.Eventf(identity, nil, corev1.EventTypeNormal, v1alpha1.ReasonIssued, "Publish",
		"Revision %d is published in Secret %s: serial number %s, valid until %s, due to be renewed at %s.", 1, identity.Spec.SecretName,
		b.material.serial, b.material.notAfter.Format(time.RFC3339), b.material.notAfter.Format(time.RFC3339))
	return ctrl.Result{}, nil
}

func (b *bare) secret(identity *v1alpha1.ClientIdentity) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: identity.Namespace, Name: string(identity.Spec.SecretName),
			Labels: map[string]string{v1alpha1.LabelManagedBy: "floor", v1alpha1.LabelKind: "ClientIdentity"},
			Annotations: map[string]string{
				v1alpha1.AnnotationOwner: "ClientIdentity/" + identity.Name, v1alpha1.AnnotationOwnerUID: string(identity.UID),
				v1alpha1.AnnotationOwnerVersion: identity.ResourceVersion, v1alpha1.AnnotationRevision: "1",
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "ClientIdentity", Name: identity.Name, UID: identity.UID, Controller: new(true),
			}},
		},
		Type: corev1.SecretTypeTLS, Data: b.material.data,
	}
}

func (b *bare) status(identity *v1alpha1.ClientIdentity) v1alpha1.IdentityStatus {
	end := &metav1.Time{Time: b.material.notAfter}
	return v1alpha1.IdentityStatus{
		ObservedGeneration: identity.Generation, Revision: 1, SerialNumber: b.material.serial, SHA256: b.material.sha256,
		NotBefore: end, NotAfter: end, RenewalTime: end, Binding: &v1alpha1.Binding{Name: identity.Spec.SecretName},
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPublished,
			ObservedGeneration: identity.Generation, LastTransitionTime: metav1.Now(),
			Message: fmt.Sprintf("The certificate in Secret %s/%s is published and valid until %s; the next rotation is due at %s.",
				identity.Namespace, identity.Spec.SecretName, end.Format(time.RFC3339), end.Format(time.RFC3339)),
		}},
	}
}
