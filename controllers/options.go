// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/kube"
)

// Options are everything that the controllers need of the outside.
type Options struct {
	// Namespaces to work in, besides that of the operator; empty for all.
	Namespaces []string
	// OperatorNamespace holds the key pairs of cluster-wide authorities.
	OperatorNamespace string
	// Registry of the metrics; nil for the manager's.
	Registry prometheus.Registerer
	// Version of this build, for the metrics.
	Version string
	// Workers per controller.
	Workers int
	// Clock is the only clock.
	Clock clock.PassiveClock
	// APIClock compares our clock with that of the API server.
	APIClock *kube.APIClock
	// Rights are what the API server refuses; they stand in the transport, and in the options of the cache. Nil where they
	// are not watched.
	Rights *access.Rights
	// AllowLoopback lets rekey dial databases on loopback addresses.
	AllowLoopback bool
	// StepTimeout of one step of a rotation; 0 for the default.
	StepTimeout time.Duration
	// Engines by their name in the API.
	Engines map[v1alpha1.Engine]database.Engine
	// KeyPairs makes authorities out of key pairs.
	KeyPairs issuer.KeyPairs
}

// cached returns the namespaces that the manager's cache holds, and that are worked in; none for all.
func (o Options) cached() []string {
	if len(o.Namespaces) == 0 {
		return nil
	}
	return append(slices.Clone(o.Namespaces), o.OperatorNamespace)
}
