// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/refusal"
)

const (
	// clusterPatience is how long a reconcile waits for the API server to return the cluster's UID.
	clusterPatience = 5 * time.Second
	// clusterPause is the minimum time between a failed request and the next one.
	clusterPause = 5 * time.Second
)

// ClusterID identifies the cluster by the UID of the namespace kube-system, which a restore keeps and a new cluster does not
// have. It is read once, by one reconcile at a time. If the last read failed, the other reconciles do not wait for the next one.
type ClusterID struct {
	live   client.Reader
	clock  clock.PassiveClock
	rights *access.Rights
	turn   Turn

	mu  sync.Mutex
	uid string
	// failure is the last error, at failedAt. returns is how often rights had been granted again by then.
	failure  error
	failedAt time.Time
	returns  int64
	asking   bool
}

// NewClusterID returns a ClusterID that has read nothing yet.
func NewClusterID(live client.Reader, passing clock.PassiveClock, rights *access.Rights) *ClusterID {
	return &ClusterID{live: live, clock: passing, rights: rights, turn: NewTurn()}
}

// Get returns the UID of the cluster, from memory if it is known.
func (c *ClusterID) Get(ctx context.Context) (string, error) {
	if uid, err := c.last(); uid != "" || err != nil {
		return uid, err
	}
	if err := c.turn.Take(ctx); err != nil {
		return "", clusterFailure(err)
	}
	defer c.turn.Give()
	// Another caller may have read it meanwhile.
	if uid, err := c.last(); uid != "" || err != nil {
		return uid, err
	}
	return c.ask(ctx)
}

// last returns what is known without a request; nothing if it is time for one.
func (c *ClusterID) last() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uid != "" || c.failure == nil {
		return c.uid, nil
	}
	age := c.clock.Since(c.failedAt)
	recent := age >= 0 && age < clusterPause && c.returns == c.rights.Returns("")
	if recent || c.asking {
		return "", c.failure
	}
	return "", nil
}

// ask reads the UID. The caller must hold the turn.
func (c *ClusterID) ask(ctx context.Context) (string, error) {
	returns := c.rights.Returns("")
	c.set(func() { c.asking = true })
	defer c.set(func() { c.asking = false })
	asking, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	var namespace corev1.Namespace
	if err := c.live.Get(asking, client.ObjectKey{Name: metav1.NamespaceSystem}, &namespace); err != nil {
		failure := clusterFailure(err)
		if ctx.Err() == nil { // otherwise the error says nothing about the API server
			c.set(func() { c.failure, c.failedAt, c.returns = failure, c.clock.Now(), returns })
		}
		return "", failure
	}
	c.set(func() { c.uid, c.failure = string(namespace.UID), nil })
	return string(namespace.UID), nil
}

func (c *ClusterID) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func clusterFailure(err error) error {
	return refusal.Fault("reading the UID of namespace "+metav1.NamespaceSystem, err, nil)
}
