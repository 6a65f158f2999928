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
	// startServer starts the mTLS server and returns its address.
	startServer(ctx context.Context) (string, error)
	// startApp starts the application, which calls the server at that address.
	startApp(ctx context.Context, server string) error
	// restartOperator stops every process of the operator and waits until a new one leads.
	restartOperator(ctx context.Context) error
	// stop stops what the place started on this machine.
	stop()
}

// said holds the output of the programs.
type said struct {
	operator, app, server transcript
}

// leader returns the holder of the operator's lease unless it is one of those before.
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

// leaders returns the current holders of the leases.
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

// awaitLeader waits until a new process leads.
func awaitLeader(ctx context.Context, kube client.Client, before map[string]bool, patience time.Duration) error {
	return poll(ctx, 200*time.Millisecond, patience, func(ctx context.Context) error {
		_, err := leader(ctx, kube, before)
		return err
	})
}

// runsOnNode reports whether an object is useful only if the operator runs as a pod.
func runsOnNode(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "PriorityClass":
		return true
	}
	return strings.HasPrefix(object.GetAPIVersion(), "monitoring.coreos.com/")
}
