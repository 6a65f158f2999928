// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lines is how many lines of a log explain a failure.
const explaining = 40

// explain prints what an engineer would check first after a failure; in continuous integration nothing else may be left.
// It is best effort, as the cluster itself may be broken.
func (d *demo) explain(ctx context.Context) {
	if d.cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	d.explainObjects(ctx)
	d.explainPods(ctx)
	d.explainEvents(ctx)
	for name, log := range map[string]*transcript{"operator": &d.said.operator, "application": &d.said.app, "server": &d.said.server} {
		d.out.heading("Last lines of the " + name)
		for _, line := range log.tail(explaining) {
			d.out.printf("  %s", line)
		}
	}
	if d.db != nil {
		d.out.heading("Last lines of PostgreSQL")
		lines := strings.Split(strings.TrimSpace(d.db.LogText()), "\n")
		for _, line := range lines[max(0, len(lines)-explaining):] {
			d.out.printf("  %s", line)
		}
	}
}

func (d *demo) explainObjects(ctx context.Context) {
	d.out.heading("Conditions")
	objects, err := (&restarter{d}).objects(ctx)
	if err != nil {
		d.out.printf("  %v", err)
	}
	for _, object := range objects {
		conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
		if err != nil || len(conditions) == 0 {
			d.out.printf("  %s %s/%s: no condition", object.GetKind(), object.GetNamespace(), object.GetName())
		}
		for _, raw := range conditions {
			if c, ok := raw.(map[string]any); ok {
				d.out.printf("  %s %s/%s: %v=%v %v since %v: %v", object.GetKind(), object.GetNamespace(), object.GetName(),
					c["type"], c["status"], c["reason"], c["lastTransitionTime"], c["message"])
			}
		}
	}
}

func (d *demo) explainPods(ctx context.Context) {
	for _, namespace := range []string{operatorNamespace, appNamespace, serverNamespace} {
		var pods corev1.PodList
		if err := d.kube.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			d.out.printf("  listing the pods of %s: %v", namespace, err)
		}
		for _, pod := range pods.Items {
			var states []string
			for _, c := range pod.Status.ContainerStatuses {
				states = append(states, fmt.Sprintf("%s restarts=%d %s", c.Name, c.RestartCount, stateOf(c.State)))
			}
			d.out.printf("  Pod %s/%s: %s %s", namespace, pod.Name, pod.Status.Phase, strings.Join(states, "; "))
		}
	}
}

func stateOf(state corev1.ContainerState) string {
	switch {
	case state.Waiting != nil:
		return "waiting: " + state.Waiting.Reason + " " + state.Waiting.Message
	case state.Terminated != nil:
		return fmt.Sprintf("exited with %d: %s %s", state.Terminated.ExitCode, state.Terminated.Reason, state.Terminated.Message)
	}
	return "running"
}

func (d *demo) explainEvents(ctx context.Context) {
	d.out.heading("Last Events")
	var events eventsv1.EventList
	if err := d.kube.List(ctx, &events); err != nil {
		d.out.printf("  %v", err)
	}
	slices.SortFunc(events.Items, func(a, b eventsv1.Event) int {
		return cmp.Compare(a.CreationTimestamp.Unix(), b.CreationTimestamp.Unix())
	})
	for _, event := range events.Items[max(0, len(events.Items)-explaining):] {
		d.out.printf("  %s %s %s %s/%s: %s", event.CreationTimestamp.UTC().Format(stamp), event.Type, event.Reason,
			event.Regarding.Namespace, event.Regarding.Name, event.Note)
	}
}
