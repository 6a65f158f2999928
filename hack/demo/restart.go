// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

const (
	// quietAfter is how long nothing may be due, so that a restart fits in and can be watched for a while.
	quietAfter = 18 * time.Second
	// quietBefore is how long nothing may have changed before. The count of a policy's users is updated up to 5 s late, and must
	// not look like a write caused by the restart.
	quietBefore = 6 * time.Second
	// watchedAtLeast is how long the new operator is watched.
	watchedAtLeast = 3 * time.Second
	// margin before the next due time: a status shows whole seconds, and polling takes a while on a busy machine.
	margin = 2 * time.Second
	// pause after an attempt without a result.
	pause = 3 * time.Second
)

// kinds of rekey, in the plural.
var kinds = []string{
	"CertificateAuthority", "ClusterCertificateAuthority", "ClientIdentity", "ServerIdentity",
	"RotationPolicy", "DatabaseServer", "DatabaseCredential",
}

// restarter restarts the operator at the first quiet moment, while the story runs.
type restarter struct {
	*demo
}

// run retries until a restart fits into a quiet moment, and records what it observed.
func (r *restarter) run(ctx context.Context) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		done, err := r.try(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// try restarts the operator if nothing is due for a while. It reports whether there is a result.
func (r *restarter) try(ctx context.Context) (bool, error) {
	objects, err := r.objects(ctx)
	if err != nil {
		return false, err
	}
	due := nextDue(objects, time.Now())
	if time.Until(due) < quietAfter {
		return false, nil
	}
	early, err := r.snapshot(ctx)
	if err != nil {
		return false, err
	}
	if !wait(ctx, quietBefore) {
		return false, nil
	}
	before, err := r.snapshot(ctx)
	if err != nil || !maps.Equal(early, before) {
		return false, err
	}
	r.out.tellf(time.Now(), "restart", operatorNamespace+"/"+operatorName, "stopping every operator process; nothing is due before %s", due.UTC().Format(stamp))
	started := time.Now()
	if err := r.place.restartOperator(ctx); err != nil {
		return false, fmt.Errorf("restarting the operator: %w", err)
	}
	back := time.Since(started)
	r.out.tellf(time.Now(), "restart", operatorNamespace+"/"+operatorName, "a new process became the leader after %.1f s", back.Seconds())
	quiet := time.Until(due) - margin
	if quiet < watchedAtLeast || !wait(ctx, quiet) {
		return false, nil
	}
	after, err := r.snapshot(ctx)
	if err != nil || time.Now().After(due) { // what is due now may have been written already
		return false, err
	}
	result := &restart{back: back, quiet: quiet, watched: len(before), changed: differences(before, after)}
	r.out.tellf(time.Now(), "restart", operatorNamespace+"/"+operatorName, "after %.0f s: %d of %d Secrets and objects were written", quiet.Seconds(), len(result.changed), result.watched)
	for _, name := range result.changed {
		r.out.tellf(time.Now(), "broken", operatorNamespace+"/"+operatorName, "written after the restart: %s", name)
	}
	r.past.mu.Lock()
	defer r.past.mu.Unlock()
	r.past.restart = result
	return true, nil
}

// wait lets time pass; false means that the context has ended.
func wait(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// objects returns every object of rekey's kinds.
func (r *restarter) objects(ctx context.Context) ([]unstructured.Unstructured, error) {
	var objects []unstructured.Unstructured
	for _, kind := range kinds {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		if err := r.kube.List(ctx, &list); err != nil {
			return nil, fmt.Errorf("listing every %s: %w", kind, err)
		}
		objects = append(objects, list.Items...)
	}
	return objects, nil
}

// snapshot returns the resource versions of rekey's objects and of the Secrets that the operator wrote, without the lease,
// which every leader renews.
func (r *restarter) snapshot(ctx context.Context) (map[string]string, error) {
	objects, err := r.objects(ctx)
	if err != nil {
		return nil, err
	}
	var secrets corev1.SecretList
	if err := r.kube.List(ctx, &secrets, client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}); err != nil {
		return nil, fmt.Errorf("listing the Secrets: %w", err)
	}
	versions := map[string]string{}
	for _, object := range objects {
		versions[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = object.GetResourceVersion()
	}
	for _, secret := range secrets.Items {
		versions["Secret "+secret.Namespace+"/"+secret.Name] = secret.ResourceVersion
	}
	return versions, nil
}

// differences returns what was written, created or removed between two snapshots.
func differences(before, after map[string]string) []string {
	var names []string
	for name, version := range before {
		if after[name] != version {
			names = append(names, name)
		}
	}
	for name := range after {
		if _, known := before[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
