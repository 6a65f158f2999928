// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package duo

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

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
