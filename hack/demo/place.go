// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// place is where the operator and the two programs run.
type place interface {
	// installOperator applies the shipped objects and waits until the operator leads.
	installOperator(ctx context.Context, shipped []*unstructured.Unstructured) error
	// startServer starts the mTLS server and gives the address at which it answers.
	startServer(ctx context.Context) (string, error)
	// startApp starts the application, which calls the server at the address.
	startApp(ctx context.Context, server string) error
	// restartOperator ends every process of the operator, and waits until a new one leads.
	restartOperator(ctx context.Context) error
	// stop ends what the place started on this machine.
	stop()
}

// said is what everything that we run has said.
type said struct {
	operator, app, server transcript
}

// leader asks whom the operator's lease names, which is not one of those before.
func leader(ctx context.Context, kube client.Client, before map[string]bool) (string, error) {
	var leases coordinationv1.LeaseList
	if err := kube.List(ctx, &leases, client.InNamespace(operatorNamespace)); err != nil {
		return "", fmt.Errorf("reading the operator's lease: %w", err)
	}
	for _, lease := range leases.Items {
		if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" && !before[*holder] {
			return *holder, nil
		}
	}
	return "", fmt.Errorf("no operator holds the lease in %s yet", operatorNamespace)
}

// leaders gives everybody who holds a lease now.
func leaders(ctx context.Context, kube client.Client) (map[string]bool, error) {
	var leases coordinationv1.LeaseList
	if err := kube.List(ctx, &leases, client.InNamespace(operatorNamespace)); err != nil {
		return nil, fmt.Errorf("reading the operator's lease: %w", err)
	}
	holders := map[string]bool{}
	for _, lease := range leases.Items {
		if lease.Spec.HolderIdentity != nil {
			holders[*lease.Spec.HolderIdentity] = true
		}
	}
	return holders, nil
}

// awaitLeader waits until somebody new leads.
func awaitLeader(ctx context.Context, kube client.Client, before map[string]bool, patience time.Duration) error {
	return poll(ctx, 200*time.Millisecond, patience, func(ctx context.Context) error {
		_, err := leader(ctx, kube, before)
		return err
	})
}

// runsOnNode tells whether an object is of use only where the operator runs as a pod.
func runsOnNode(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "PriorityClass":
		return true
	}
	return strings.HasPrefix(object.GetAPIVersion(), "monitoring.coreos.com/")
}
