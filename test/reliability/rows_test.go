// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func rows(t *testing.T) []Row {
	t.Helper()
	out, err := Load("rows")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryClassHasARow(t *testing.T) {
	if missing := Missing(rows(t)); len(missing) > 0 {
		t.Errorf("no rows for %s: each needs a file in %s", strings.Join(missing, ", "), Rows)
	}
}

func TestEveryRowNamesTestsThatExistAndBreaksThatFit(t *testing.T) {
	for _, row := range rows(t) {
		t.Run(row.Class, func(t *testing.T) {
			for _, problem := range Check(root, row) {
				t.Error(problem)
			}
		})
	}
}

// The page names the stage of each test, and hack/test.sh runs the test in that stage.
func TestThePageNamesTheStageThatRunsATest(t *testing.T) {
	text, err := os.ReadFile(root + "/hack/test.sh")
	if err != nil {
		t.Fatal(err)
	}
	script := string(text)
	apart := regexp.MustCompile(`go list \./\.\.\. \| grep -vE '([^']+)'`).FindStringSubmatch(script)
	crash := regexp.MustCompile(`groups=\(([^)]+)\)`).FindAllStringSubmatch(script, -1) // Full and short.
	if apart == nil || len(crash) != 2 {
		t.Fatal("hack/test.sh no longer lists the packages that the test stage leaves out, or those of the crash stage")
	}
	for _, line := range []string{"-tags e2e ./test/e2e/...", "verbose ./test/bench -timeout 40m -tags bench"} {
		if !strings.Contains(script, line) {
			t.Errorf("hack/test.sh has no %q", line)
		}
	}
	tests := []Test{{Package: "./test/e2e", Tags: "e2e"}, {Package: "./test/bench", Tags: "bench"}, {Package: "./test/bench"}, {Package: "./test/crash"}, {Package: "./test/crashes"}}
	for _, row := range rows(t) {
		tests = append(tests, row.Tests...)
	}
	elsewhere := regexp.MustCompile(apart[1])
	for _, test := range tests {
		want := "test"
		switch {
		case elsewhere.MatchString(strings.TrimPrefix(test.Package, ".")):
			want = "crash"
			for _, groups := range crash {
				if !slices.Contains(strings.Fields(strings.ReplaceAll(groups[1], `"`, " ")), test.Package) {
					t.Errorf("a crash stage of hack/test.sh does not run %s", test.Package)
				}
			}
		case test.Tags != "":
			want = test.Tags
		}
		if got := test.Stage(); got != want {
			t.Errorf("%s (tags %q) is listed in stage %s, and runs in %s", test.Package, test.Tags, got, want)
		}
	}
}

func TestContinuousIntegrationRunsEveryStageOfARow(t *testing.T) {
	script, err := os.ReadFile(root + "/.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t) {
		for _, test := range row.Tests {
			if !strings.Contains(string(script), "\nstage "+test.Stage()+" ") {
				t.Errorf("%s: %s in %s runs in stage %s, which .ci/run does not have", row.Class, test.Run, test.Package, test.Stage())
			}
		}
	}
}

// tree writes files into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestLoadRefusesWhatItWouldOtherwiseIgnore(t *testing.T) {
	cases := map[string]struct {
		file, text string
		want       string
	}{
		"an unknown field":              {file: "R1.yaml", text: "class: R1\nbreakes: []\n", want: "unknown field"},
		"a duplicate field":             {file: "R1.yaml", text: "class: R1\ntitle: a\ntitle: b\n", want: "already set"},
		"an unknown class":              {file: "R99.yaml", text: "class: R99\n", want: "no class"},
		"a file of another class":       {file: "R2.yaml", text: "class: R1\n", want: "R1.yaml"},
		"a file with another extension": {file: "R1.yml", text: "class: R1\n", want: "R1.yaml"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Load(tree(t, map[string]string{tc.file: tc.text}))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("Load read a folder without rows")
	}
}

func TestLoadSortsTheRowsByClass(t *testing.T) {
	got, err := Load(tree(t, map[string]string{"I1.yaml": "class: I1", "S2.yaml": "class: S2", "R10.yaml": "class: R10", "R9.yaml": "class: R9"}))
	if err != nil {
		t.Fatal(err)
	}
	var classes []string
	for _, row := range got {
		classes = append(classes, row.Class)
	}
	if diff := cmp.Diff([]string{"R9", "R10", "S2", "I1"}, classes); diff != "" {
		t.Error(diff)
	}
}

func TestCheckFindsEveryProblemOfARow(t *testing.T) {
	folder := tree(t, map[string]string{
		"heart/heart.go":      "package heart\n\nfunc beat() int { return 1 }\n\nfunc rest() int { return 1 }\n",
		"heart/heart_test.go": "package heart\n\nimport \"testing\"\n\nfunc TestItBeats(t *testing.T) { t.Run(\"beats twice\", nil); t.Run(fmt.Sprintf(\"%d beats, in a row\", 3), nil) }\n",
		"heart/slow_test.go":  "//go:build slow\n\npackage heart\n\nimport \"testing\"\n\nfunc TestItGoesOn(*testing.T) {}\n",
	})
	good := func() Row {
		return Row{
			Class: "R1", Title: "it stops", Guard: "It does not stop.",
			Tests:  []Test{{Package: "./heart", Run: "^TestItBeats$", Shows: "it beats"}},
			Breaks: []Break{{Name: "never", File: "heart/heart.go", Find: "beat() int { return 1", Replace: "beat() int { return 0", Package: "./heart", Run: "^TestItBeats$"}},
		}
	}
	cases := map[string]struct {
		change func(*Row)
		want   string
	}{
		"nothing":                            {change: func(*Row) {}},
		"a line end at the end of find":      {change: func(r *Row) { r.Breaks[0].Find += "\n"; r.Breaks[0].Replace += "\n" }},
		"a subtest":                          {change: func(r *Row) { r.Tests = append(r.Tests, r.Tests[0]); r.Tests[0].Run = "^TestItBeats$/^beats_twice$" }},
		"a guard that is a subtest":          {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/^beats_twice$" }},
		"a subtest by the end of its name":   {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/twice$" }},
		"a subtest by the start of its name": {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/^beats" }},
		"one of two subtests":                {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/^beats_(twice|thrice)$" }, want: "no subtest of"},
		"a subtest with a formatted name":    {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/^3_beats,_in_a_row$" }},
		"a subtest that does not exist":      {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/^beats_twise$" }, want: "no subtest of"},
		"a subtest of a subtest":             {change: func(r *Row) { r.Breaks[0].Run = "^TestItBeats$/./^twise$" }, want: "no subtest of"},
		"a test with its tag": {change: func(r *Row) {
			r.Tests = append(r.Tests, Test{Package: "./heart", Run: "^TestItGoesOn$", Shows: "on", Tags: "slow"})
		}},
		"an absent class":                    {change: func(r *Row) { *r = Row{Class: "R1", Title: "it stops", Absent: "There is none."} }},
		"tests without a break, explained":   {change: func(r *Row) { r.Breaks, r.NoBreak = nil, "It is a rule of the API server." }},
		"no title":                           {change: func(r *Row) { r.Title = "" }, want: "no title"},
		"no guard":                           {change: func(r *Row) { r.Guard = "" }, want: "no guard"},
		"no tests":                           {change: func(r *Row) { r.Tests = nil }, want: "no tests"},
		"no break":                           {change: func(r *Row) { r.Breaks = nil }, want: "no break"},
		"both breaks and nobreak":            {change: func(r *Row) { r.NoBreak = "no" }, want: "both breaks and nobreak"},
		"absent, with tests":                 {change: func(r *Row) { r.Absent = "no" }, want: "absent class has neither"},
		"a test without shows":               {change: func(r *Row) { r.Tests[0].Shows = "" }, want: "has no shows"},
		"a test that does not exist":         {change: func(r *Row) { r.Tests[0].Run = "^TestItSings$" }, want: "no test in ./heart"},
		"a test without its tag":             {change: func(r *Row) { r.Tests[0].Run = "^TestItGoesOn$" }, want: "no test in ./heart"},
		"an expression without anchors":      {change: func(r *Row) { r.Tests[0].Run = "TestItBeats" }, want: "selects more"},
		"an invalid expression":              {change: func(r *Row) { r.Tests[0].Run = "^Test($" }, want: "missing closing"},
		"a folder without tests":             {change: func(r *Row) { r.Tests[0].Package = "./liver" }, want: "no test files"},
		"many packages":                      {change: func(r *Row) { r.Tests[0].Package = "./..." }, want: "single package"},
		"a guard that does not exist":        {change: func(r *Row) { r.Breaks[0].Run = "^TestItSings$" }, want: "no test in ./heart"},
		"a guard that the row does not name": {change: func(r *Row) { r.Breaks[0].Run, r.Breaks[0].Tags = "^TestItGoesOn$", "slow" }, want: "not among the tests of the row"},
		"a break without a name":             {change: func(r *Row) { r.Breaks[0].Name = "" }, want: "no name"},
		"two breaks with one name":           {change: func(r *Row) { r.Breaks = append(r.Breaks, r.Breaks[0]) }, want: "two breaks"},
		"a break of a test":                  {change: func(r *Row) { r.Breaks[0].File = "heart/heart_test.go" }, want: "is a test"},
		"a break of a missing file":          {change: func(r *Row) { r.Breaks[0].File = "heart/lung.go" }, want: "no such file"},
		"a text that does not occur":         {change: func(r *Row) { r.Breaks[0].Find = "return 2" }, want: "occurs 0 times"},
		"a text that occurs twice":           {change: func(r *Row) { r.Breaks[0].Find = "return 1" }, want: "occurs 2 times"},
		"a break that changes nothing":       {change: func(r *Row) { r.Breaks[0].Replace = r.Breaks[0].Find + "\n" }, want: "the same"},
		"a break of nothing":                 {change: func(r *Row) { r.Breaks[0].Find = "" }, want: "empty"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			row := good()
			tc.change(&row)
			var got []string
			for _, problem := range Check(folder, row) {
				got = append(got, problem.Error())
			}
			all := strings.Join(got, "\n")
			if tc.want == "" && all != "" {
				t.Errorf("unexpected problems: %s", all)
			}
			if !strings.Contains(all, tc.want) {
				t.Errorf("got %q, want %q", all, tc.want)
			}
		})
	}
}
