// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// module is a small product with its tests, as files.
var module = map[string]string{
	"go.mod": "module example.test/heart\n\ngo 1.26\n",
	"heart/heart.go": `package heart

// Beats in a minute.
func Beats(minutes int) int { return 60 * minutes }

// Rest in seconds.
func Rest() int { return 8 }
`,
	"heart/heart_test.go": `package heart

import "testing"

func TestBeats(t *testing.T) {
	t.Run("an hour", func(t *testing.T) {
		for Beats(60) != 3600 {
			if Beats(60) < 0 {
				continue
			}
			t.Fatal(Beats(60))
		}
	})
}

func TestRest(t *testing.T) { t.Log(Rest()) }
`,
}

type breaking struct{ find, replace, run string }

// row returns the row of a class with one break.
func row(b breaking) string {
	return fmt.Sprintf(`class: R1
title: the heart stops
guard: It does not.
tests:
- {package: ./heart, run: ^TestBeats$, shows: it beats}
breaks:
- name: another heart
  file: heart/heart.go
  find: %q
  replace: %q
  package: ./heart
  run: %s
`, b.find, b.replace, b.run)
}

func place(t *testing.T, more map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, files := range []map[string]string{module, more} {
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// files returns the texts of all files below a folder.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestABreakIsCaughtOrSurvivesOrSaysNothing(t *testing.T) {
	cases := map[string]struct {
		breaking

		want, wantError string
	}{
		"a test fails":                     {breaking{"60 * minutes", "61 * minutes", "^TestBeats$"}, "caught ", ""},
		"a subtest fails":                  {breaking{"60 * minutes", "61 * minutes", "^TestBeats$/^an_hour$"}, "caught ", ""},
		"a test panics":                    {breaking{"return 60 * minutes", "panic(minutes)", "^TestBeats$"}, "caught ", ""},
		"a test hangs":                     {breaking{"60 * minutes", "-minutes", "^TestBeats$"}, "caught ", ""},
		"no test notices":                  {breaking{"return 8", "return 9", "^TestRest$"}, "passes although", "1 of 1 breaks were not caught"},
		"it does not compile":              {breaking{"return 8", "return eight", "^TestRest$"}, "undefined: eight", "1 of 1 breaks were not caught"},
		"the program exits without a test": {breaking{"// Rest", "func init() { panic(1) }\n\n// Rest", "^TestRest$"}, "none of its tests did", "1 of 1 breaks were not caught"},
		"the guard selects no subtest":     {breaking{"60 * minutes", "61 * minutes", "^TestBeats$/^a_year$"}, "no test matches ^TestBeats$/^a_year$", "1 of 1 breaks were not caught"},
		"the guard does not exist":         {breaking{"60 * minutes", "61 * minutes", "^TestPulse$"}, "no test matches ^TestPulse$", "1 of 1 breaks were not caught"},
		"the product has changed":          {breaking{"70 * minutes", "61 * minutes", "^TestBeats$"}, "occurs 0 times", "1 of 1 breaks were not caught"},
		"the class has no break of a name": {breaking{"60 * minutes", "61 * minutes", "^TestBeats$"}, "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			root := place(t, map[string]string{"test/reliability/rows/R1.yaml": row(tc.breaking)})
			before := files(t, root)
			args := []string{"--class", "R1", "--patience", "2s"}
			if strings.HasPrefix(name, "the class has no break") {
				args, tc.wantError = append(args, "--name", "lung"), "no break found"
			}
			var out strings.Builder
			err := run(t.Context(), root, args, &out)
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("printed:\n%s\nwithout %q", out.String(), tc.want)
			}
			if got := fmt.Sprint(err); (err == nil) != (tc.wantError == "") || !strings.Contains(got, tc.wantError) {
				t.Errorf("got error %v, want %q", err, tc.wantError)
			}
			if diff := cmp.Diff(before, files(t, root)); diff != "" {
				t.Errorf("files were changed:\n%s", diff)
			}
		})
	}
}

func TestAGuardThatFailsWithoutABreakCatchesNothing(t *testing.T) {
	root := place(t, map[string]string{
		"test/reliability/rows/R1.yaml": row(breaking{"60 * minutes", "61 * minutes", "^TestAlways$"}),
		"heart/always_test.go":          "package heart\n\nimport \"testing\"\n\nfunc TestAlways(t *testing.T) { t.Error(Beats(1)) }\n",
	})
	var out strings.Builder
	err := run(t.Context(), root, []string{"--patience", "2s"}, &out)
	if err == nil || !strings.Contains(out.String(), "without any break, in ./heart: failed: TestAlways") {
		t.Errorf("got %v, printed:\n%s", err, out.String())
	}
}

// rekey's tests start servers in their own process groups, and a panic leaves these behind.
func TestProcessesThatATestLeavesBehindAreStopped(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	root := place(t, map[string]string{
		"test/reliability/rows/R1.yaml": row(breaking{"60 * minutes", "61 * minutes", "^TestServer$"}),
		"heart/server_test.go": fmt.Sprintf(`package heart

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

func TestServer(t *testing.T) {
	if Beats(1) == 60 {
		return
	}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(%q, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
	panic("the server keeps running")
}
`, note),
	})
	var out strings.Builder
	if err := run(t.Context(), root, []string{"--patience", "2s"}, &out); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(state), ") Z ") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("process %d still runs: %s", pid, state)
	}
}

func TestListPrintsTheBreaksAndTouchesNothing(t *testing.T) {
	root := place(t, map[string]string{"test/reliability/rows/R1.yaml": row(breaking{"60 * minutes", "61 * minutes", "^TestBeats$"})})
	var out strings.Builder
	if err := run(t.Context(), root, []string{"--list"}, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("R1   another heart: ./heart ^TestBeats$\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestASampleIsTheSameForOneSeed(t *testing.T) {
	var all []mutant
	for i := range 40 {
		all = append(all, mutant{class: fmt.Sprint(i)})
	}
	names := func(of []mutant) (out []string) {
		for _, m := range of {
			out = append(out, m.class)
		}
		return out
	}
	once := names(draw(all, 6, 1))
	if len(once) != 6 {
		t.Fatalf("%d of 6 were drawn", len(once))
	}
	if diff := cmp.Diff(once, names(draw(all, 6, 1))); diff != "" {
		t.Errorf("the same seed drew others:\n%s", diff)
	}
	if cmp.Equal(once, names(draw(all, 6, 2))) {
		t.Errorf("another seed drew the same: %q", once)
	}
	if got := names(draw(all, 100, 1)); !cmp.Equal(got, names(all)) {
		t.Errorf("a sample larger than all breaks must have each once: %q", got)
	}
}
