// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/canary"
	"github.com/rekey/rekey/test/fixture"
)

// These checks hold for every kind.

// notReady returns what the status lacks, or an empty string if it reports that all is well with the current spec.
func notReady(o client.Object) string {
	conditions, generation := fixture.Conditions(o), fixture.ObservedGeneration(o)
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		return "there is no condition Ready"
	case ready.Status != metav1.ConditionTrue:
		return fmt.Sprintf("Ready is %s, %s: %s", ready.Status, ready.Reason, ready.Message)
	case generation != o.GetGeneration():
		return fmt.Sprintf("observedGeneration is %d, the generation %d", generation, o.GetGeneration())
	}
	for _, c := range conditions {
		if c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionExpiringSoon || c.Type == v1alpha1.ConditionRotationOverdue {
			return fmt.Sprintf("%s is set: %s: %s", c.Type, c.Reason, c.Message)
		}
		if c.Type == v1alpha1.ConditionVerified && c.Status != metav1.ConditionTrue {
			return fmt.Sprintf("Verified is %s, %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return ""
}

// checkEvents compares the Events with those of the life without faults. An Event that a crash swallowed is not emitted again; a
// process that survives may emit one more for each fault. A process that died and its successor have no reason to warn. If the
// life itself has a problem, Events about it, or about its end, may be emitted once more for each fault, because the fault
// interfered.
func (r *run) checkEvents() {
	if r.baseline == nil {
		return
	}
	livedThrough := 0
	for _, o := range r.orders {
		if o.fate != dies {
			livedThrough++
		}
	}
	for _, emitted := range r.seen.events {
		usual := count(r.baseline, emitted)
		most := max(usual, livedThrough)
		if strings.HasPrefix(emitted, "Warning ") || emitted == "Normal "+v1alpha1.ReasonRecovered {
			most = usual + livedThrough
		}
		if got := count(r.seen.events, emitted); got > most {
			r.fail("Events", "%q was emitted %d times, but at most %d times is right: %q", emitted, got, most, r.seen.events)
		}
	}
}

func count(all []string, one string) int {
	n := 0
	for _, other := range all {
		if other == one {
			n++
		}
	}
	return n
}

// checkNoLeaks searches all output of the run for its secret values.
func (r *run) checkNoLeaks() {
	status, err := json.Marshal(r.object)
	r.must(err)
	r.say("the object", string(status))
	if found := canary.Search(r.seen.secrets, r.seen.texts); len(found) > 0 {
		r.fail("I6", "%q", found)
	}
}

func revisionOf(secret *corev1.Secret) int64 {
	seq, err := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// ownedBy reports whether garbage collection deletes an object together with its owner.
func ownedBy(o, owner client.Object) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == owner.GetUID() })
}
