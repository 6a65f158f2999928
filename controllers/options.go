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

// Options holds everything that the controllers need from outside.
type Options struct {
	// Namespaces to serve, besides the operator's; empty for all.
	Namespaces []string
	// OperatorNamespace holds the key pairs of cluster-wide authorities.
	OperatorNamespace string
	// Registry of the metrics; nil for the manager's.
	Registry prometheus.Registerer
	// Version of this build, for the metrics.
	Version string
	// Workers is the number of concurrent reconciles per controller.
	Workers int
	// Clock is the only clock.
	Clock clock.PassiveClock
	// APIClock compares this process's clock with the API server's.
	APIClock *kube.APIClock
	// Rights tracks what the API server refuses; the transport and the cache options use the same one. Nil if rights are not tracked.
	Rights *access.Rights
	// AllowLoopback allows connections to databases on loopback addresses.
	AllowLoopback bool
	// StepTimeout limits one step of a rotation; 0 for the default.
	StepTimeout time.Duration
	// Engines by their name in the API.
	Engines map[v1alpha1.Engine]database.Engine
	// Issuers by the member of the union in an authority's spec.
	Issuers map[v1alpha1.AuthorityType]issuer.Opener
}

// cached returns the namespaces that the manager caches and serves; none for all.
func (o Options) cached() []string {
	if len(o.Namespaces) == 0 {
		return nil
	}
	return append(slices.Clone(o.Namespaces), o.OperatorNamespace)
}
