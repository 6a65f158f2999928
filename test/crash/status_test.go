// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/factcheck"
)

// checkStatuses compares every status with the state that it describes, now that everything is settled, and checks the form of
// every Event of all processes, including dead ones.
func (s *scene) checkStatuses(t *testing.T) {
	t.Helper()
	checker := &factcheck.Checker{Reader: env.kube}
	statuses, events := 0, &eventsv1.EventList{}
	for _, list := range []client.ObjectList{
		&v1alpha1.CertificateAuthorityList{}, &v1alpha1.ClusterCertificateAuthorityList{}, &v1alpha1.ClientIdentityList{}, &v1alpha1.ServerIdentityList{},
		&v1alpha1.RotationPolicyList{}, &v1alpha1.DatabaseServerList{}, &v1alpha1.DatabaseCredentialList{},
	} {
		if err := env.kube.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		err := apimeta.EachListItem(list, func(item runtime.Object) error {
			object, ok := item.(client.Object)
			if !ok || !strings.HasPrefix(object.GetNamespace(), s.place.name) {
				return nil
			}
			statuses++
			if err := checker.Status(t.Context(), object); err != nil {
				t.Errorf("the status of %T %s is wrong: %v", object, object.GetName(), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := env.kube.List(t.Context(), events, client.InNamespace(s.place.name)); err != nil {
		t.Fatal(err)
	}
	for _, event := range events.Items {
		if err := factcheck.Message(event.Note); err != nil {
			t.Errorf("an Event of %s %s: %v", event.Regarding.Kind, event.Regarding.Name, err)
		}
	}
	if statuses < 4 || len(events.Items) == 0 {
		t.Errorf("found only %d statuses and %d Events", statuses, len(events.Items))
	}
	t.Logf("%d statuses and %d Events are right: %v", statuses, len(events.Items), checker.Claims())
}
