// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goldenFile = "testdata/refusals.golden"

// golden collects refusal messages by the title of their case, and compares each with the file.
type golden struct {
	mutex sync.Mutex
	want  map[string]string
	got   map[string]string
}

var refusals = &golden{got: map[string]string{}}

// check compares the message for title with the golden file.
func (g *golden) check(t *testing.T, title string, said []string) {
	t.Helper()
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.want == nil {
		g.want = readGolden(t)
	}
	text := "  " + strings.Join(said, "\n  ")
	if _, double := g.got[title]; double {
		t.Fatalf("two cases have the title %q", title)
	}
	g.got[title] = text
	if *update {
		g.want[title] = text
		writeGolden(t, g.want)
		return
	}
	if diff := cmp.Diff(g.want[title], text); diff != "" {
		t.Errorf("the refusal differs from %s (go test ./test/api -update rewrites it) (-want +got):\n%s", goldenFile, diff)
	}
}

func readGolden(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	text, err := os.ReadFile(goldenFile)
	if os.IsNotExist(err) && *update {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		title, said, _ := strings.Cut(block, "\n")
		out[title] = said
	}
	return out
}

func writeGolden(t *testing.T, entries map[string]string) {
	t.Helper()
	var out strings.Builder
	for _, title := range slices.Sorted(maps.Keys(entries)) {
		out.WriteString(title + "\n" + entries[title] + "\n\n")
	}
	if err := os.WriteFile(goldenFile, []byte(strings.TrimSuffix(out.String(), "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}
