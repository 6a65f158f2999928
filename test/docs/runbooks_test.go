// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/hack/docgen/conditions"
)

const (
	root     = "../.."
	apiFile  = root + "/api/v1alpha1/conditions.go"
	faults   = root + "/internal/fault/reasons.go"
	runbooks = root + "/docs/runbooks"
)

// Pages besides those of the reasons: an index, pages about a task (lower case), and pages of alerts about rekey itself
// (Rekey...).
var otherPage = regexp.MustCompile(`^(README|[a-z].*|Rekey.*)$`)

func groups(t *testing.T, file string) []conditions.Group {
	t.Helper()
	out, err := conditions.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// warnings returns the warning reasons of api/v1alpha1; fromFault omits those that internal/fault does not know.
func warnings(t *testing.T, fromFault bool) []string {
	t.Helper()
	var out []string
	for _, group := range groups(t, apiFile) {
		if !group.Warning() || (fromFault && !strings.Contains(group.Rest, "internal/fault")) {
			continue
		}
		for _, word := range group.Words {
			if word.Name != "Reason"+word.Value {
				t.Errorf("%s has the value %q, not %q", word.Name, word.Value, strings.TrimPrefix(word.Name, "Reason"))
			}
			out = append(out, word.Value)
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryWarningReasonHasARunbookAndEveryRunbookAReason(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); !otherPage.MatchString(name) {
			pages = append(pages, name)
		}
	}
	slices.Sort(pages)
	if diff := cmp.Diff(warnings(t, false), pages); diff != "" {
		t.Errorf("the warning reasons of api/v1alpha1/conditions.go and the pages of docs/runbooks differ (-reasons +pages):\n%s", diff)
	}
}

func TestARunbookStartsWithItsReason(t *testing.T) {
	for _, reason := range warnings(t, false) {
		text, err := os.ReadFile(filepath.Join(runbooks, reason+".md"))
		if err != nil {
			t.Errorf("%s has no runbook: write docs/runbooks/%s.md", reason, reason)
			continue
		}
		if first, _, _ := strings.Cut(string(text), "\n"); first != "# "+reason {
			t.Errorf("docs/runbooks/%s.md starts with %q, not with %q", reason, first, "# "+reason)
		}
	}
}

func TestFaultAndTheKindsHaveTheSameReasons(t *testing.T) {
	var known []string
	meanings := map[string]string{}
	for _, group := range groups(t, faults) {
		for _, word := range group.Words {
			if word.Name != word.Value {
				t.Errorf("fault.%s has the value %q", word.Name, word.Value)
			}
			known = append(known, word.Value)
			meanings[word.Value] = word.Meaning
		}
	}
	slices.Sort(known)
	if diff := cmp.Diff(warnings(t, true), known); diff != "" {
		t.Errorf("the reasons of engines and issuers differ (-api/v1alpha1/conditions.go +internal/fault/reasons.go):\n%s", diff)
	}
	for _, group := range groups(t, apiFile) {
		for _, word := range group.Words {
			if meaning, ok := meanings[word.Value]; ok && group.Warning() && meaning != word.Meaning {
				t.Errorf("%s has two meanings (-api +fault):\n%s", word.Value, cmp.Diff(word.Meaning, meaning))
			}
		}
	}
}
