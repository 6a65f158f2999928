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

// Fences that are taken away, to see that they are missed.
const (
	brokenSwap = "compare-and-swap"
	brokenMark = "mark at the database"
	brokenRead = "live read"
)

// harmful is what befalls a credential: it does not work, nobody knows it, it was changed twice, or one revision was two. That
// something does not come to rest (I4, I8) is no harm to it.
var harmful = regexp.MustCompile("^I[1235]: ")

// old answers a read as it would have been answered before the process stood still: that is all that it knows without a live read.
func (a *actor) old(r world.Request) bool {
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

// A machine that finds nothing proves nothing: without any one of the fences it finds harm.
func TestWithoutAFenceHarmIsFound(t *testing.T) {
	for _, fence := range []string{brokenSwap, brokenMark, brokenRead} {
		t.Run(strings.ReplaceAll(fence, " ", "-"), func(t *testing.T) {
			for seed := uint64(1); seed <= 40; seed++ {
				if harm := harmWithout(t, fence, seed); harm != "" {
					t.Logf("seed %d found: %s", seed, harm)
					return
				}
			}
			t.Errorf("no harm was found without the %s", fence)
		})
	}
}

// harmWithout plays without a fence, and gives the first harm that it found.
func harmWithout(t *testing.T, fence string, seed uint64) string {
	t.Helper()
	var d *twoLeaders
	switch fence {
	case brokenMark:
		// Who stands still before the retirement of a version whose slot another one lives in when he goes on.
		late := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionRetain, phase: 2, only: "call Retire", while: 2}
		d, _ = late.run(t, setup{seed: seed, broken: fence})
	case brokenRead:
		// Who stands still before he makes a login whose credential is gone, with its ledger, when he goes on.
		late := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionDelete, phase: 1, only: "call Stage", while: 3}
		d, _ = late.run(t, setup{seed: seed, broken: fence})
	default:
		d = newTwoLeaders(t, setup{seed: seed, lags: true, broken: fence})
		orderly(d, life(v1alpha1.DeletionRetain)[:7], 10)
	}
	bad := d.bad
	d.bad = nil // it was wanted here
	for _, text := range bad {
		if harmful.MatchString(text) {
			return text
		}
	}
	return ""
}
