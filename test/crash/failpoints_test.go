// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/failpoint"
)

// effects are all that the operator does. Each has a point before and after it.
var effects = []string{
	// What makes a certificate: nothing of it leaves the process.
	"Make", "Issue", "Permit",
	// Calls of the engine, and their statements.
	"Stage", "Verify", "Retire", "Remove",
	"Stage: begin isolation level read", "Stage: CREATE ROLE", "Stage: GRANT TO", "Stage: GRANT TO WITH SET", "Stage: ALTER ROLE LOGIN PASSWORD",
	"Stage: ALTER ROLE SET role", "Stage: COMMENT ON ROLE IS", "Stage: commit",
	"Retire: begin isolation level read", "Retire: ALTER ROLE NOLOGIN PASSWORD", "Retire: COMMENT ON ROLE IS", "Retire: commit",
	"Remove: begin isolation level read", "Remove: DROP ROLE", "Remove: GRANT TO", "Remove: REASSIGN OWNED BY TO", "Remove: DROP OWNED BY",
	"Remove: REVOKE FROM GRANTED BY", "Remove: REVOKE FROM", "Remove: commit",
	// The ledger, by the step that it records. "Settled" is also a retirement.
	"create secrets (ledger Proposed)", "update secrets (ledger Proposed)", "update secrets (ledger Staged)", "update secrets (ledger Verified)",
	"update secrets (ledger Committed)", "update secrets (ledger Published)", "update secrets (ledger Settled)", discarded,
	// What users read.
	"create secrets (postgresql)", "update secrets (postgresql)", "create secrets (tls)", "update secrets (tls)", "delete secrets",
	// Records of authorities, finalizers, reports.
	"create configmaps", "update configmaps", "update databasecredentials", "create events", "patch events",
	"update certificateauthorities/status", "update clustercertificateauthorities/status", "update clientidentities/status",
	"update serveridentities/status", "update rotationpolicies/status", "update databaseservers/status", "update databasecredentials/status",
}

// points are all places to die at.
func points() []string {
	var out []string
	for _, effect := range effects {
		out = append(out, "before "+effect, "after "+effect)
	}
	return out
}

// often tells whether a point is passed many times in a life, so that it can be died at in the second place too: in
// another credential's rotation, while the first one is in the middle.
func often(point string) bool {
	_, effect, _ := strings.Cut(point, " ")
	return effect == "delete secrets" || strings.HasPrefix(effect, "update secrets (ledger") && effect != discarded ||
		effect == "Verify" || effect == "Stage" || effect == "Stage: commit" || effect == "Retire: commit"
}

// unknown complains of points that the table lacks: an effect was added to the product, and nobody has thought of what
// happens when the process dies there.
func unknown(t *testing.T, passed []string) {
	t.Helper()
	known := append(points(), "", failpoint.Died)
	slices.Sort(passed)
	for _, name := range passed {
		if !slices.Contains(known, name) {
			t.Errorf("the table of effects lacks %q", name)
		}
	}
}
