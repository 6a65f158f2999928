// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package duo

import (
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

// old answers a read with an older state, where there is one.
func (a *actor) old(r world.Request) bool {
	h := a.duo.history
	found := h.at(r.Kind, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, max(0, len(h[r.Kind])-2))
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
			for seed := uint64(1); seed <= uint64(sized(15, 40)); seed++ {
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
	var d *duo
	if fence == brokenMark {
		// Who stands still before the retirement of a version whose slot another one lives in when he goes on.
		late := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionRetain, phase: 2, only: "call Retire", while: 2}
		d, _ = late.run(t, setup{seed: seed, broken: fence})
	} else {
		d = newDuo(t, setup{seed: seed, lags: true, broken: fence})
		orderly(d, life(v1alpha1.DeletionRetain)[:7], 10)
	}
	bad := d.bad
	d.bad = nil // it was wanted here
	for _, text := range bad {
		if strings.HasPrefix(text, "I") || strings.HasPrefix(text, "Secret ") {
			return text
		}
	}
	return ""
}
