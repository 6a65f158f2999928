// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// Cleanup is given up at once only if the namespace is being deleted, and only for a missing right.
func TestOnlyAMissingRightInATerminatingNamespaceMeansThatItEnds(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "app",
		errors.New(`User "system:serviceaccount:rekey-system:rekey" cannot create resource "secrets" in API group "" in the namespace "web"`))
	now := metav1.Now()
	terminating := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web", DeletionTimestamp: &now, Finalizers: []string{"kubernetes"}}}
	for name, tc := range map[string]struct {
		namespace client.Object
		err       error
		want      bool
	}{
		"a missing right in a terminating namespace": {terminating, forbidden, true},
		"a missing right in an active namespace":     {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, forbidden, false},
		"a missing right in an unknown namespace":    {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, forbidden, false},
		"another failure in a terminating namespace": {terminating, apierrors.NewInternalError(errors.New("etcd")), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := shared{live: fake.NewClientBuilder().WithObjects(tc.namespace).Build()}
			if got := s.namespaceEnds(t.Context(), "web", tc.err); got != tc.want {
				t.Errorf("namespaceEnds is %t, want %t", got, tc.want)
			}
		})
	}
}
