// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		source string
		want   []Group
		err    string
	}{
		"a block with a comment over two lines": {
			source: "// Warning reasons about time. They\n// warn.\nconst (\n// A: one\n// thing.\nA = \"a\"\n)",
			want:   []Group{{Title: "Warning reasons about time", Rest: "They warn.", Words: []Word{{"A", "a", "one thing."}}}},
		},
		"a constant without a comment": {source: "const (\nA = \"a\"\n)", err: `the comment of A does not start with "A: "`},
		"a constant that is computed":  {source: "const (\n// A: x.\nA = B + \"a\"\n)", err: "A is not a literal"},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.go")
			if err := os.WriteFile(file, []byte("package x\n"+tc.source), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Parse(file)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("want an error with %q, got %v", tc.err, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
