// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantNoWord fails the test for each line of a folder that has one of the words, outside what is allowed.
func wantNoWord(t *testing.T, folder, words, allowed string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	word, fine := regexp.MustCompile(words), regexp.MustCompile(allowed)
	looked := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		looked++
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for number, line := range strings.Split(string(text), "\n") {
			if found := word.FindString(fine.ReplaceAllString(line, "")); found != "" {
				t.Errorf("%s:%d names an implementation: %s", file, number+1, found)
			}
		}
	}
	if looked < 5 {
		t.Errorf("only %d files were read", looked)
	}
}

// none is an expression that matches nothing.
const none = `[^\s\S]`

// The controllers name no engine, and neither do the packages below them: an engine is added without a change there.
func TestNoFileOfTheControllersNamesAnEngine(t *testing.T) {
	for _, folder := range []string{"controllers", "internal/rotation", "internal/lifecycle", "internal/secretstore", "internal/report", "internal/kube"} {
		wantNoWord(t, folder, `(?i)postgres|libpq|sslmode|scram|pg_|mariadb|mysql|redis|rabbitmq`, none)
	}
}

// The controllers name no member of the authority's union, and no issuer. A key pair is what an issuer.Creator creates, and
// secretstore.KeyPair is where that is kept, whatever the member is called.
func TestNoFileOfTheControllersNamesAnIssuer(t *testing.T) {
	wantNoWord(t, "controllers", `(?i)\bmanaged\b|\bkey_?pair\b|(managed|keypair)authority|AuthorityType(Managed|KeyPair)|issuer/ca\b|vault|acme|\bstep-?ca\b|cert-?manager|venafi`,
		`secretstore\.KeyPair\b`)
}

// The architecture shows the planner's table as it is.
func TestThePageShowsTheTableOfThePlanner(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(root, "internal", "rotation", "testdata", "table.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `([a-z-]+)` \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		fmt.Fprintf(&shown, "%2s %-14s if %s: %s\n", row[1], row[2], row[3], row[4])
	}
	if got, want := strings.Split(shown.String(), "\n"), strings.Split(string(table), "\n"); !slices.Equal(got, want) {
		t.Errorf("the page and the table differ (-want +got):\n%s", cmp.Diff(want, got))
	}
}
