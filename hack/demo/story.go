// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// patience is the limit of the whole story, which takes about two and a half minutes.
	storyPatience = 6 * time.Minute
	// patience until everything is issued for the first time.
	issuePatience = 90 * time.Second
	// maxPollFailures is how many consecutive times the cluster may fail to answer.
	maxPollFailures = 20
)

// story starts everything and observes it until every promise can be judged.
func (d *demo) story(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storyPatience)
	defer cancel()
	acted := make(chan error, 1)
	go func() { acted <- d.act(ctx) }()
	o := &observer{demo: d, events: map[types.UID]int{}, said: time.Now()}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for failed := 0; ; {
		select {
		case err := <-acted:
			if err != nil {
				return err
			}
			acted = nil // nothing more will happen
		case <-ctx.Done():
			return nil // the table shows what is missing
		case <-tick.C:
		}
		err := o.observe(ctx)
		if err == nil {
			failed = 0
		} else if failed++; failed > maxPollFailures {
			return err
		}
		if d.finished() {
			return nil
		}
	}
}

func (d *demo) finished() bool {
	d.past.mu.Lock()
	defer d.past.mu.Unlock()
	return d.past.complete()
}

// act does what a user would do: apply the samples, start the programs, forget an identity, restart the operator.
func (d *demo) act(ctx context.Context) error {
	if err := d.applySamples(ctx); err != nil {
		return err
	}
	for _, secret := range slices.SortedFunc(maps.Keys(tracked), func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }) {
		if err := d.awaitSecret(ctx, secret); err != nil {
			return err
		}
	}
	server, err := d.place.startServer(ctx)
	if err != nil {
		return err
	}
	d.out.tellf(time.Now(), "started", serverNamespace+"/api", "mTLS server at %s", server)
	d.out.tellf(time.Now(), "started", appNamespace+"/orders", "application: a new handshake and a new login every second")
	if err := d.place.startApp(ctx, server); err != nil {
		return err
	}
	return (&restarter{d}).run(ctx)
}

// applySamples applies config/samples and one more identity, which is suspended as soon as it is issued.
func (d *demo) applySamples(ctx context.Context) error {
	objects, err := samples(d.options.source, d.db)
	if err != nil {
		return err
	}
	lost, err := forgotten(objects)
	if err != nil {
		return err
	}
	byNamespace := map[string][]string{}
	for _, object := range append(objects, lost) {
		raw, err := toUnstructured(object)
		if err != nil {
			return err
		}
		if err := apply(ctx, d.kube, raw); err != nil {
			return err
		}
		byNamespace[raw.GetNamespace()] = append(byNamespace[raw.GetNamespace()], raw.GetKind()+" "+raw.GetName())
	}
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		whose := namespace
		if whose == "" {
			whose = "the cluster"
		}
		d.out.tellf(time.Now(), "applied", whose, "%s", strings.Join(byNamespace[namespace], ", "))
	}
	if err := d.awaitSecret(ctx, types.NamespacedName{Namespace: appNamespace, Name: forgottenSecret}); err != nil {
		return err
	}
	lost.Spec.Suspend = true
	if err := applyTyped(ctx, d.kube, lost); err != nil {
		return err
	}
	d.out.tellf(time.Now(), "applied", appNamespace+"/"+forgottenName, "suspend: true, so that it is not renewed and expires")
	return nil
}

// awaitSecret waits until the operator has published a Secret.
func (d *demo) awaitSecret(ctx context.Context, key types.NamespacedName) error {
	err := poll(ctx, 100*time.Millisecond, issuePatience, func(ctx context.Context) error {
		var secret corev1.Secret
		return d.kube.Get(ctx, key, &secret)
	})
	if err != nil {
		return fmt.Errorf("waiting for the Secret %s: %w", key, err)
	}
	return nil
}
