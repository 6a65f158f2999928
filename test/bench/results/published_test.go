// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The page in docs matches its numbers, without manual edits.
func TestThePublishedPageMatchesItsNumbers(t *testing.T) {
	docs := filepath.Join("..", "..", "..", "docs")
	run, err := Read(filepath.Join(docs, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"benchmarks.md": Page(run), PictureFile: Picture(Charts(run)...)} {
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/%s differs from what docs/benchmarks.json generates; run: go run ./test/bench/page docs/benchmarks.json (-want +got):\n%s", name, diff)
		}
	}
}
