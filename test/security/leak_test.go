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

func TestALifeUnderTheRightsOfConfigDefault(t *testing.T) { ask(t, liveOn(t, "default")) }

func TestALifeUnderTheRightsOfConfigNamespaced(t *testing.T) { ask(t, liveOn(t, "namespaced")) }

func ask(t *testing.T, l *life) {
	t.Helper()
	last := l.operators[len(l.operators)-1]
	last.scrape()
	last.stop()
	l.witness.stop()
	t.Run("no password and no private key stands anywhere but in Secrets", func(t *testing.T) { noPlainSecret(t, l) })
	t.Run("every reason to warn was given while secrets were searched for, or its text is known otherwise", func(t *testing.T) { everyReason(t, l) })
	t.Run("every condition and Event has the form of a sentence that helps", func(t *testing.T) { everySentence(t, l) })
	t.Run("verifiers are seen where the admin cannot prevent it, and nowhere else", func(t *testing.T) { verifiersAsDocumented(t, l) })
	t.Run("nothing was forbidden to the operator", func(t *testing.T) { nothingForbidden(t, l) })
	t.Run("the operator has no right that it does not use", func(t *testing.T) { noIdleRight(t, l) })
	t.Run("no Secret is listed where the operator does not work", func(t *testing.T) { listsItsOwnOnly(t, l) })
}

// places in which a search must have looked.
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
		t.Errorf("places that were searched (-want +got):\n%s", diff)
	}
	const fewest = 60
	if len(secrets) < fewest {
		t.Errorf("only %d secrets were ever seen; at least %d were expected", len(secrets), fewest)
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

// verifiersAsDocumented wants exactly what docs/threat-model.md says. A verifier is not the password, but it can be guessed
// from, offline.
func verifiersAsDocumented(t *testing.T, l *life) {
	t.Helper()
	_, verifiers := l.witness.secrets()
	seen := map[string]bool{}
	for _, found := range canary.Search(verifiers, l.texts()) {
		what, where, _ := strings.Cut(found, " is in ")
		object, _, _ := strings.Cut(what, " #")
		admin, _, known := strings.Cut(object, "-")
		if !known || !slices.Contains(admins, admin) {
			admin = "plain" // the troubled ones use its server
		}
		place, _, _ := strings.Cut(where, " of PostgreSQL")
		seen[admin+": "+place] = true
	}
	// How long a statement lasts is chance: whether a look at pg_stat_activity falls into it is too.
	for _, admin := range admins {
		delete(seen, admin+": pg_stat_activity")
	}
	want := []string{"plain: log", "plain: pg_stat_statements"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("admins whose credentials' verifiers are seen, and where (-want +got):\n%s", diff)
	}
}
