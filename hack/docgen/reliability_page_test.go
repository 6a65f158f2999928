// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekey/rekey/test/reliability"
)

const smallMatrix = `{"lives": [{"kind": "DatabaseCredential", "life": "first issue", "steps": [
	{"n": 1, "step": "create Secret/ledger", "faults": {"before": "settled", "lost": "stuck"}}]}]}`

// place writes rows for every class except the one left out, and a matrix unless it is empty.
func place(t *testing.T, matrix, without string) (rows, file string) {
	t.Helper()
	rows = t.TempDir()
	for _, class := range reliability.Classes() {
		text := "class: " + class + "\ntitle: it stops\nabsent: there is none.\n"
		switch class {
		case "R2":
			text = "class: R2\ntitle: a | b\nguard: It is not.\ntests:\n- {package: ./test/e2e, run: ^TestItBeats$, shows: it beats, tags: e2e}\n" +
				"breaks:\n- {name: it stops, file: heart/heart.go, find: a, replace: b, package: ./heart, run: ^TestItBeats$}\n"
		case without:
			continue
		}
		if err := os.WriteFile(filepath.Join(rows, class+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "matrix.json")
	if matrix != "" {
		if err := os.WriteFile(file, []byte(matrix), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return rows, file
}

func TestThePageHasEveryClassWithTestsAndBreaksAndTheMatrix(t *testing.T) {
	rows, matrix := place(t, smallMatrix, "")
	seen := map[string]reliability.Result{"R2": {Tests: &reliability.Seen{Date: "2026-05-01", Commit: "ab1dd73", Good: 6, Of: 7}}}
	got, err := reliabilityPage(rows, matrix, seen)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| R1 | It stops | No test can show it: there is none. | | |",
		`| [R2](#r2) | A \| b | It is not. | ` + "`make try CLASS=R2` | `make mutate CLASS=R2` |",
		"| `./test/e2e` `TestItBeats` | It beats | e2e |",
		"A \\| b. It is not.\n\nSeen 2026-05-01 at ab1dd73: 6 of 7 tests passed.\n\n| test |",
		"| It stops | [heart.go](../heart/heart.go) | `TestItBeats` |",
		"| DatabaseCredential | first issue | 1 | 2 | 1 |",
		"| 1 | create Secret/ledger | ✓ | · | stuck | · | · |",
		"| I10 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestAnIncompletePageIsNotWritten(t *testing.T) {
	cases := map[string]struct {
		matrix  string
		without string
		want    string
	}{
		"a class is missing":           {matrix: smallMatrix, without: "S3", want: "no rows for S3"},
		"the matrix is missing":        {matrix: "", want: "does not exist"},
		"the matrix is empty":          {matrix: `{"lives": []}`, want: "holds no lives"},
		"the matrix has another shape": {matrix: `{"kinds": []}`, want: "unknown field"},
		"an unexplained fault":         {matrix: strings.ReplaceAll(smallMatrix, `"lost"`, `"late"`), want: `fault "late"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			rows, matrix := place(t, tc.matrix, tc.without)
			_, err := reliabilityPage(rows, matrix, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
