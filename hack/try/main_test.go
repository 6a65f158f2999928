// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekey/rekey/test/reliability"
)

const tests = `package heart

import "testing"

func TestBeats(t *testing.T) { t.Run("once", func(*testing.T) {}) }

func TestFails(t *testing.T) { t.Error("no beat") }

func TestSkips(t *testing.T) { t.Skip() }
`

// place writes a module with tests, and a row of class R1 with the test.
func place(t *testing.T, run string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                        "module example.test/heart\n\ngo 1.26\n",
		"heart/heart_test.go":           tests,
		"test/reliability/rows/R1.yaml": fmt.Sprintf("class: R1\ntitle: it stops\nguard: No.\nnobreak: none\ntests:\n- {package: ./heart, run: %s, shows: it beats}\n", run),
		"test/reliability/rows/R2.yaml": "class: R2\ntitle: it stops for good\nabsent: it has no end.\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAClassIsTriedAndOnlyWhatPassedIsSaidToPass(t *testing.T) {
	cases := map[string]struct{ run, class, want, wantError string }{
		"a test that passes":         {"^TestBeats$", "R1", "2 passed", ""},
		"a subtest that passes":      {"^TestBeats$/^once$", "R1,R2", "2 passed", ""},
		"a class that is absent":     {"^TestBeats$", "R2", "nothing to try: it has no end.", ""},
		"every class":                {"^TestBeats$", "", "R2: it stops for good", ""},
		"a test that fails":          {"^TestFails$", "R1", "no beat", "failed: TestFails"},
		"a test that is skipped":     {"^TestSkips$", "R1", "FAILED", "skipped: TestSkips"},
		"a subtest that is not here": {"^TestBeats$/^twice$", "R1", "FAILED", "no test matches ^TestBeats$/^twice$"},
		"a class that is not here":   {"^TestBeats$", "R9", "", `no row for class "R9"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := run(t.Context(), place(t, tc.run), []string{"--class", tc.class}, &out)
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("printed:\n%s\nwithout %q", out.String(), tc.want)
			}
			if (err == nil) != (tc.wantError == "") || !strings.Contains(fmt.Sprint(err), tc.wantError) {
				t.Errorf("got error %v, want %q", err, tc.wantError)
			}
		})
	}
}

func TestWhatATryShowedIsWrittenDownOnPurpose(t *testing.T) {
	for test, want := range map[string]string{"^TestBeats$": "1 of 1 tests passed", "^TestFails$": "0 of 1 tests passed"} {
		root := place(t, test)
		for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.test", "commit", "-qm", "a"}} {
			cmd := exec.CommandContext(t.Context(), "git", args...)
			cmd.Dir = root
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		for _, args := range [][]string{{"--class", "R1"}, {"--record"}} {
			err := run(t.Context(), root, args, io.Discard)
			seen, readErr := reliability.Results(root)
			if readErr != nil {
				t.Fatal(readErr)
			}
			got := seen["R1"].String()
			if recorded := args[0] == "--record"; strings.Contains(got, want) != recorded || strings.Contains(got, "with changes") || len(seen) > 1 {
				t.Errorf("%v (%v) recorded %v, want %q", args, err, seen, want)
			}
		}
	}
}
