// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/world"
)

// Each fence is removed once, to verify that the tests detect its absence.
const (
	brokenSwap   = "compare-and-swap"
	brokenMarker = "marker at the database"
	brokenRead   = "live read"
)

// harmful matches the harm that can come to a credential: it does not work, no ledger records it, it was changed twice, or one
// revision stood for two credentials. Not coming to rest (I4, I8) does not count as harm.
var harmful = regexp.MustCompile("^I[1235]: ")

// staleRead answers a read from before the suspension, which is all that a process knows without a live read.
func (a *actor) staleRead(r world.Request) bool {
	if a.before == nil {
		return false
	}
	found := a.play.history.at(r.Kind, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, a.before[r.Kind])
	if found == nil {
		return false
	}
	fill(r.Object, copyOf(found))
	return true
}

// A test that finds nothing proves nothing unless it finds harm when any one of the fences is missing.
func TestEveryMissingFenceIsDetected(t *testing.T) {
	for _, fence := range []string{brokenSwap, brokenMarker, brokenRead} {
		t.Run(strings.ReplaceAll(fence, " ", "-"), func(t *testing.T) {
			for seed := uint64(1); seed <= 40; seed++ {
				if harm := harmWithout(t, fence, seed); harm != "" {
					t.Logf("seed %d found: %s", seed, harm)
					return
				}
			}
			t.Errorf("found no harm without the %s", fence)
		})
	}
}

// harmWithout plays without a fence and returns the first harm that it finds.
func harmWithout(t *testing.T, fence string, seed uint64) string {
	t.Helper()
	var d *twoLeaders
	switch fence {
	case brokenMarker:
		// The process is suspended before it retires a version, and another version occupies that slot when it continues.
		late := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionRetain, phase: 2, only: "call Retire", meanwhile: 2}
		d, _ = late.run(t, setup{seed: seed, broken: fence})
	case brokenRead:
		// The process is suspended before it creates a login, and the credential and its ledger are deleted when it continues.
		late := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionDelete, phase: 1, only: "call Stage", meanwhile: 3}
		d, _ = late.run(t, setup{seed: seed, broken: fence})
	default:
		d = newTwoLeaders(t, setup{seed: seed, lags: true, broken: fence})
		orderly(d, life(v1alpha1.DeletionRetain)[:7], 10)
	}
	violations := d.violations
	d.violations = nil // this play is meant to do harm
	for _, text := range violations {
		if harmful.MatchString(text) {
			return text
		}
	}
	return ""
}
