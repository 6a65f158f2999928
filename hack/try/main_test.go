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

// place writes a module with tests and a row of class R1 with the test.
func place(t *testing.T, run string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                        "module example.test/heart\n\ngo 1.26\n",
		"heart/heart_test.go":           tests,
		"test/reliability/rows/R1.yaml": fmt.Sprintf("class: R1\ntitle: it stops\nguard: No.\nnobreak: none\ntests:\n- {package: ./heart, run: %s, shows: it beats}\n", run),
		"test/reliability/rows/R2.yaml": "class: R2\ntitle: it stops permanently\nabsent: it has no end.\n",
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

func TestAClassIsTestedAndOnlyPassesAreReported(t *testing.T) {
	cases := map[string]struct{ run, class, want, wantError string }{
		"a test that passes":     {"^TestBeats$", "R1", "2 passed", ""},
		"a subtest that passes":  {"^TestBeats$/^once$", "R1,R2", "2 passed", ""},
		"a class that is absent": {"^TestBeats$", "R2", "nothing to try: it has no end.", ""},
		"every class":            {"^TestBeats$", "", "R2: it stops permanently", ""},
		"a test that fails":      {"^TestFails$", "R1", "no beat", "failed: TestFails"},
		"a test that is skipped": {"^TestSkips$", "R1", "FAILED", "skipped: TestSkips"},
		"a missing subtest":      {"^TestBeats$/^twice$", "R1", "FAILED", "no test matches ^TestBeats$/^twice$"},
		"a missing class":        {"^TestBeats$", "R9", "", `no row for class "R9"`},
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

func TestResultsAreRecordedOnlyWithTheFlag(t *testing.T) {
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

// Results are recorded for the classes whose tests ran in the stages.
func TestTheResultsOfTheStagesAreRecorded(t *testing.T) {
	const module = "github.com/rekey/rekey/heart"
	pass := func(test string) string { return fmt.Sprintf(`{"Action":"pass","Package":%q,"Test":%q}`, module, test) }
	fail := func(test string) string { return strings.Replace(pass(test), "pass", "fail", 1) }
	cases := map[string]struct {
		run    string
		events []string
		commit string
		want   string // in the record; empty for none
		said   string
		failed string
	}{
		"all of it passed":      {"^TestBeats$", []string{pass("TestBeats/once"), pass("TestBeats")}, "abc123", `"good": 1`, "R1: 1 of 1 tests passed, seen", ""},
		"a part of it failed":   {"^TestBeats$", []string{fail("TestBeats/once"), pass("TestBeats/twice"), fail("TestBeats")}, "abc123", `"good": 0`, "", "R1: 0 of 1 tests passed"},
		"the package failed":    {"^TestBeats$", []string{pass("TestBeats"), fmt.Sprintf(`{"Action":"fail","Package":%q}`, module)}, "abc123", `"good": 0`, "", "R1: 0 of 1 tests passed"},
		"another test failed":   {"^TestBeats$", []string{fail("TestFails"), pass("TestBeats"), fmt.Sprintf(`{"Action":"fail","Package":%q}`, module)}, "abc123", `"good": 1`, "", ""},
		"it did not run":        {"^TestBeats$", []string{pass("TestFails")}, "abc123", "", "did not run: ./heart ^TestBeats$", ""},
		"the commit is unknown": {"^TestBeats$", []string{pass("TestBeats")}, "", "", "", "finding the commit of stage test"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			root := place(t, tc.run)
			folder := filepath.Join(root, "seen")
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			files := map[string]string{"test-..json": strings.Join(tc.events, "\n") + "\n"}
			if tc.commit != "" {
				files["test.commit"] = tc.commit + "\n"
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			err := run(t.Context(), root, []string{"--class", "R1,R2", "--stages", "seen"}, &out)
			if said := fmt.Sprint(err); (tc.failed == "") != (err == nil) || !strings.Contains(said, tc.failed) && tc.failed != "" {
				t.Errorf("the error is %v, want %q", err, tc.failed)
			}
			if !strings.Contains(out.String(), tc.said) {
				t.Errorf("it printed %q, want %q", out.String(), tc.said)
			}
			text, err := os.ReadFile(filepath.Join(root, "test", "reliability", "results.json"))
			if wrote := err == nil && strings.Contains(string(text), `"R1"`); wrote != (tc.want != "") || !strings.Contains(string(text), tc.want) {
				t.Errorf("recorded %q, want %q", text, tc.want)
			}
			if tc.want != "" && !strings.Contains(string(text), tc.commit) {
				t.Errorf("%q does not name the commit %s", text, tc.commit)
			}
		})
	}
}
