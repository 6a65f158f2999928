// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/failpoint"
)

// effects are all effects of the operator. Each has a point before it and one after it.
var effects = []string{
	// These create a certificate and do not leave the process.
	"Create", "Issue", "Permit",
	// These are calls of the engine, and their statements.
	"Stage", "Verify", "Retire", "Remove",
	"Stage: begin isolation level read", "Stage: CREATE ROLE", "Stage: GRANT TO", "Stage: GRANT TO WITH SET", "Stage: ALTER ROLE LOGIN PASSWORD",
	"Stage: ALTER ROLE SET role", "Stage: COMMENT ON ROLE IS", "Stage: commit",
	"Retire: begin isolation level read", "Retire: ALTER ROLE NOLOGIN PASSWORD", "Retire: COMMENT ON ROLE IS", "Retire: commit",
	"Remove: begin isolation level read", "Remove: DROP ROLE", "Remove: GRANT TO", "Remove: REASSIGN OWNED BY TO", "Remove: DROP OWNED BY",
	"Remove: REVOKE FROM GRANTED BY", "Remove: REVOKE FROM", "Remove: commit",
	// These are writes of the ledger, by the step that they record. "Settled" includes a retirement.
	"create secrets (ledger Proposed)", "update secrets (ledger Proposed)", "update secrets (ledger Staged)", "update secrets (ledger Verified)",
	"update secrets (ledger Committed)", "update secrets (ledger Published)", "update secrets (ledger Settled)", discarded,
	// These write users' Secrets.
	"create secrets (postgresql)", "update secrets (postgresql)", "create secrets (tls)", "update secrets (tls)", "delete secrets",
	// These are records of authorities, finalizers and reports.
	"create configmaps", "update configmaps", "update databasecredentials", "create events", "patch events",
	"update certificateauthorities/status", "update clustercertificateauthorities/status", "update clientidentities/status",
	"update serveridentities/status", "update rotationpolicies/status", "update databaseservers/status", "update databasecredentials/status",
}

// points returns all points at which the operator can die.
func points() []string {
	var out []string
	for _, effect := range effects {
		out = append(out, "before "+effect, "after "+effect)
	}
	return out
}

// isFrequent reports whether a point is reached several times in a life, so that the operator can also die at its second
// occurrence: during another credential's rotation, while the first one is in progress.
func isFrequent(point string) bool {
	_, effect, _ := strings.Cut(point, " ")
	return effect == "delete secrets" || strings.HasPrefix(effect, "update secrets (ledger") && effect != discarded ||
		effect == "Verify" || effect == "Stage" || effect == "Stage: commit" || effect == "Retire: commit"
}

// checkKnown fails if the table lacks a point: the product gained an effect, and no test kills the process there yet.
func checkKnown(t *testing.T, passed []string) {
	t.Helper()
	known := append(points(), "", failpoint.Died)
	slices.Sort(passed)
	for _, name := range passed {
		if !slices.Contains(known, name) {
			t.Errorf("the table of effects lacks %q", name)
		}
	}
}
