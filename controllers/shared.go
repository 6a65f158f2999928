// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/backend"
)

const (
	// passTimeout of one reconcile. A remote call has less, so that a hung server leaves time to report.
	passTimeout = 2 * time.Minute
	// withdrawPatience is how long a deleted object waits for a remote end that cannot be reached.
	withdrawPatience = 10 * time.Minute
)

// shared is what all controllers have in common.
type shared struct {
	// client reads from the cache and sees its own writes. live reads from the API server, and writes what is not cached.
	client client.Client
	live   client.Client
	clock  clock.PassiveClock
	// recorder tells Events.
	recorder    events.EventRecorder
	rotator     *Rotator
	authorities *authorities
	metrics     *metrics
	// backends by engine; cluster says which cluster this is.
	backends      map[v1alpha1.Engine]backend.Backend
	allowLoopback bool
	cluster       *clusterID
}
