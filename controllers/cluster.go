// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

const (
	// clusterPatience is how long a pass waits for the API server to say which cluster this is.
	clusterPatience = 5 * time.Second
	// clusterPause is how long nobody asks again after that failed.
	clusterPause = 5 * time.Second
)

// clusterID reads once which cluster this is: the UID of the namespace kube-system, which a restore keeps and a new
// cluster has anew. Only one pass at a time asks. If the last answer was an error, the others do not wait for the next one.
type clusterID struct {
	live   client.Reader
	clock  clock.PassiveClock
	rights *access.Rights
	turn   turn

	mu  sync.Mutex
	uid string
	// failure is how asking ended, at failedAt, when rights had come back as often as returns says.
	failure  error
	failedAt time.Time
	returns  int64
	asking   bool
}

func newClusterID(live client.Reader, passing clock.PassiveClock, rights *access.Rights) *clusterID {
	return &clusterID{live: live, clock: passing, rights: rights, turn: newTurn()}
}

func (c *clusterID) id(ctx context.Context) (string, error) {
	if uid, err := c.last(); uid != "" || err != nil {
		return uid, err
	}
	if err := c.turn.take(ctx); err != nil {
		return "", clusterFailure(err)
	}
	defer c.turn.give()
	// Whoever was first has the answer.
	if uid, err := c.last(); uid != "" || err != nil {
		return uid, err
	}
	return c.ask(ctx)
}

// last returns what is known without asking; nothing if it is time to ask.
func (c *clusterID) last() (string, error) {
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

// ask reads the UID. Only the caller whose turn it is asks.
func (c *clusterID) ask(ctx context.Context) (string, error) {
	returns := c.rights.Returns("")
	c.set(func() { c.asking = true })
	defer c.set(func() { c.asking = false })
	asking, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	var namespace corev1.Namespace
	if err := c.live.Get(asking, client.ObjectKey{Name: metav1.NamespaceSystem}, &namespace); err != nil {
		failure := clusterFailure(err)
		if ctx.Err() == nil { // else it says nothing about the API server
			c.set(func() { c.failure, c.failedAt, c.returns = failure, c.clock.Now(), returns })
		}
		return "", failure
	}
	c.set(func() { c.uid, c.failure = string(namespace.UID), nil })
	return string(namespace.UID), nil
}

func (c *clusterID) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func clusterFailure(err error) error {
	return refusal.Fault("reading the UID of namespace "+metav1.NamespaceSystem, err, nil)
}

// ownerFor is the object as an owner of Secrets in namespace.
func ownerFor(kind string, object client.Object, cluster, namespace string) secretstore.Owner {
	return secretstore.Owner{
		GVK: v1alpha1.GroupVersion.WithKind(kind), Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
		Cluster: cluster, Namespace: namespace, Former: formerOf(object, namespace),
	}
}

// holdUnowned has nothing made or changed as long as unowned, why the UID of the cluster cannot be read, is not nil.
func holdUnowned(s lifecycle.Credential, unowned error) lifecycle.Credential {
	if unowned == nil {
		return s
	}
	s.Unowned = unowned
	unmet := unmetOf(unowned)
	unmet.Brake = true
	s.Preconditions = append([]rotation.Unmet{unmet}, s.Preconditions...)
	return s
}
