// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/rekey/rekey/api/v1alpha1"
)

// bare is the floor: one informer, 20 workers, no checks, and the same Secret, status and Event as rekey writes.
type bare struct {
	client client.Client
	data   map[string][]byte
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
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: identity.Namespace, Name: string(identity.Spec.SecretName)},
		Type:       corev1.SecretTypeTLS, Data: b.data,
	}
	if err := b.client.Create(ctx, secret); err != nil {
		return ctrl.Result{}, err
	}
	now := time.Now()
	identity.Status = v1alpha1.IdentityStatus{ObservedGeneration: identity.Generation, Revision: 1,
		NotBefore: &metav1.Time{Time: now}, NotAfter: &metav1.Time{Time: now}, RenewalTime: &metav1.Time{Time: now}}
	meta.SetStatusCondition(&identity.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonPublished, Message: "The certificate in the Secret is published."})
	if err := b.client.Status().Update(ctx, identity); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, b.client.Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: identity.Namespace, Name: fmt.Sprintf("%s.%x", identity.Name, now.UnixNano())},
		EventTime:  metav1.NewMicroTime(now), Type: corev1.EventTypeNormal, Reason: "Issued", Action: "Publish",
		ReportingController: "bare", ReportingInstance: "bare-0", Note: "Revision 1 is published.",
		Regarding: corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ClientIdentity",
			Namespace: identity.Namespace, Name: identity.Name, UID: identity.UID},
	})
}

func startBare(t *testing.T, s *apiServer, config *rest.Config, data map[string][]byte) {
	t.Helper()
	mgr := startable(t, s, config, ctrl.Options{})
	err := ctrl.NewControllerManagedBy(mgr).Named("bare").For(&v1alpha1.ClientIdentity{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&bare{client: mgr.GetClient(), data: data})
	if err != nil {
		t.Fatal(err)
	}
	start(t, mgr)
}
