// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/test/reliability"
)

// program is a product that its tests see only from outside: as a program that they build, and as a manifest.
var program = map[string]string{
	"heart.yaml":    "beats: 60\n",
	"bin/tool":      "built\n",
	"main/main.go":  "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Print(60) }\n",
	"old.tar":       "an archive\n",
	".cache/a/file": "kept\n",
	"outside/outside_test.go": `package outside

import (
	"os"
	"os/exec"
	"testing"
)

func TestManifest(t *testing.T) {
	if text, err := os.ReadFile("../heart.yaml"); err != nil || string(text) != "beats: 60\n" {
		t.Errorf("%s, %v", text, err)
	}
}

func TestProgram(t *testing.T) {
	if text, err := exec.Command("go", "run", "../main").CombinedOutput(); err != nil || string(text) != "60" {
		t.Errorf("%s, %v", text, err)
	}
}
`,
}

func TestABreakReachesManifestsAndProgramsThatATestBuilds(t *testing.T) {
	for name, tc := range map[string]struct{ file, find, replace, run string }{
		"a manifest": {"heart.yaml", "beats: 60", "beats: 0", "^TestManifest$"},
		"a program":  {"main/main.go", "Print(60)", "Print(61)", "^TestProgram$"},
	} {
		t.Run(name, func(t *testing.T) {
			more := map[string]string{"test/reliability/rows/R1.yaml": strings.NewReplacer(
				"FILE", tc.file, "FIND", tc.find, "REPLACE", tc.replace, "RUN", tc.run).Replace(`class: R1
title: it stops
guard: It does not.
tests:
- {package: ./outside, run: RUN, shows: it beats}
breaks:
- {name: another heart, file: FILE, find: "FIND", replace: "REPLACE", package: ./outside, run: RUN}
`)}
			maps.Copy(more, program)
			root := place(t, more)
			for _, args := range [][]string{{"init", "-q"}, {"add", "heart.yaml"}, {"-c", "user.name=a", "-c", "user.email=a@example.test", "commit", "-qm", "a"}} {
				cmd := exec.CommandContext(t.Context(), "git", args...)
				cmd.Dir = root
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			before := files(t, root)
			var out strings.Builder
			if err := run(t.Context(), root, []string{"--patience", "20s", "--record"}, &out); err != nil {
				t.Fatalf("%v:\n%s", err, out.String())
			}
			after := files(t, root)
			results := filepath.Join(root, "test/reliability/results.json")
			if !strings.Contains(after[results], `"good": 1`) || !strings.Contains(after[results], "with changes") {
				t.Errorf("recorded %s", after[results])
			}
			delete(after, results)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("files were changed:\n%s", diff)
			}
		})
	}
}

func TestACopyHasWhatWasBuiltAndNoArchives(t *testing.T) {
	root, folder := place(t, program), t.TempDir()
	if err := replica(root, folder, reliability.Break{File: "heart.yaml", Find: "60", Replace: "0"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"heart.yaml": "beats: 0\n", "bin/tool": "built\n", ".cache/a/file": "kept\n", "old.tar": ""} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if string(text) != want || (err != nil) != (want == "") {
			t.Errorf("%s holds %q (%v), want %q", name, text, err, want)
		}
	}
	if target, err := os.Readlink(filepath.Join(folder, "bin")); err != nil || target != filepath.Join(root, "bin") {
		t.Errorf("bin leads to %q, %v", target, err)
	}
}

func TestSomeBreaksOfAClassAreNotRecorded(t *testing.T) {
	root := place(t, map[string]string{"test/reliability/rows/R1.yaml": row(breaking{"60 * minutes", "61 * minutes", "^TestBeats$"})})
	if err := run(t.Context(), root, []string{"--record", "--name", "heart"}, &strings.Builder{}); err == nil {
		t.Error("they were")
	}
}
