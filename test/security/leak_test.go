// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/test/canary"
)

// A life under the rights of each installation, and the questions about it.

func TestALifeUnderTheRightsOfConfigDefault(t *testing.T) {
	t.Parallel()
	ask(t, runLife(t, "default"))
}

func TestALifeUnderTheRightsOfConfigNamespaced(t *testing.T) {
	t.Parallel()
	ask(t, runLife(t, "namespaced"))
}

func ask(t *testing.T, l *life) {
	t.Helper()
	last := l.operators[len(l.operators)-1]
	last.scrape()
	last.stop()
	l.witness.stop()
	t.Run("no password and no private key appears outside Secrets", func(t *testing.T) { noPlainSecret(t, l) })
	t.Run("every warning reason was emitted during the search, or another test searches its text", func(t *testing.T) { everyReason(t, l) })
	t.Run("every condition and Event is a helpful sentence", func(t *testing.T) { everySentence(t, l) })
	t.Run("verifiers appear only where the admin cannot prevent it", func(t *testing.T) { verifiersAsDocumented(t, l) })
	t.Run("the operator was refused nothing", func(t *testing.T) { nothingForbidden(t, l) })
	t.Run("the operator uses every right that it has", func(t *testing.T) { noIdleRight(t, l) })
	t.Run("no Secret is listed outside the operator's namespaces", func(t *testing.T) { listsItsOwnOnly(t, l) })
}

// wantPlaces returns the places that a search must cover.
func wantPlaces(l *life) []string {
	out := []string{"annotations of kubectl apply", "annotations", "labels", "managed fields", "statuses", "Events", "specs and data", "metrics",
		"standard output", "standard error", "arguments, environment and files of the process", "audit log"}
	for _, d := range l.databases {
		for _, place := range []string{"log", "pg_stat_statements", "pg_stat_activity"} {
			out = append(out, fmt.Sprintf("%s of PostgreSQL %d", place, d.Version))
		}
	}
	slices.Sort(out)
	return out
}

func noPlainSecret(t *testing.T, l *life) {
	t.Helper()
	secrets, _ := l.witness.secrets()
	secrets["superuser of the first server"], secrets["superuser of the last server"] = []byte(l.databases[0].Password), []byte(l.databases[len(l.databases)-1].Password)
	texts := l.texts()
	if diff := cmp.Diff(wantPlaces(l), slices.Sorted(maps.Keys(texts))); diff != "" {
		t.Errorf("searched places (-want +got):\n%s", diff)
	}
	const fewest = 60
	if len(secrets) < fewest {
		t.Errorf("saw only %d secrets; expected at least %d", len(secrets), fewest)
	}
	for _, found := range canary.Search(secrets, texts) {
		t.Error(found)
	}
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	t.Logf("%d secrets, %d places, %.1f MB", len(secrets), len(texts), float64(size)/1e6)
}

// verifiersAsDocumented compares the places with docs/threat-model.md. A verifier is not the password, but it allows offline
// guessing.
func verifiersAsDocumented(t *testing.T, l *life) {
	t.Helper()
	_, verifiers := l.witness.secrets()
	seen := map[string]bool{}
	for _, found := range canary.Search(verifiers, l.texts()) {
		what, where, _ := strings.Cut(found, " is in ")
		object, _, _ := strings.Cut(what, " #")
		admin, _, known := strings.Cut(object, "-")
		if !known || !slices.Contains(admins, admin) {
			admin = "plain" // The credentials of the failure tests use its server.
		}
		place, _, _ := strings.Cut(where, " of PostgreSQL")
		seen[admin+": "+place] = true
	}
	// How long a statement runs is random, and so is whether a sample of pg_stat_activity sees it.
	for _, admin := range admins {
		delete(seen, admin+": pg_stat_activity")
	}
	want := []string{"plain: log", "plain: pg_stat_statements"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("admins with credentials that have visible verifiers, and where (-want +got):\n%s", diff)
	}
}
