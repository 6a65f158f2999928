// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/test/reliability"
)

func TestAPackageOfANestedModuleIsRunThere(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                    "module example.test/body\n\ngo 1.26\n",
		"lung/go.mod":               "module example.test/lung\n\ngo 1.26\n",
		"lung/inner/inner_test.go":  "package inner\n\nimport \"testing\"\n\nfunc TestBreath(t *testing.T) { t.Run(\"in\", func(*testing.T) {}) }\n",
		"lung/inner/tagged_test.go": "//go:build slow\n\npackage inner\n\nimport \"testing\"\n\nfunc TestYawn(*testing.T) {}\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		run  Run
		want []string
	}{
		"a test and its subtest": {Run{Select: "^TestBreath$"}, []string{"TestBreath/in", "TestBreath"}},
		"a test with a tag":      {Run{Select: "^TestYawn$", Tags: "slow"}, []string{"TestYawn"}},
		"a test without its tag": {Run{Select: "^TestYawn$"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc.run.Root, tc.run.Package, tc.run.Timeout = root, "./lung/inner", time.Minute
			result, err := tc.run.Do(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := result.Verdict(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tc.want, result.Passed); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := (Run{Root: t.TempDir(), Package: "./lung"}).Do(t.Context()); err == nil {
		t.Error("a package without a module was run")
	}
}

func TestTestsOfAPackageRunTogetherButThoseOfSomeSubtests(t *testing.T) {
	got := Groups([]reliability.Test{
		{Package: "./a", Run: "^TestOne$"}, {Package: "./b", Run: "^TestOne$"}, {Package: "./a", Run: "^TestTwo$/^x$"},
		{Package: "./a", Run: "^TestTwo$"}, {Package: "./a", Run: "^TestOne$"}, {Package: "./a", Run: "^TestOne$", Tags: "e2e"},
	})
	want := []Grouped{
		{Group{Package: "./a"}, []string{"^TestOne$", "^TestTwo$"}},
		{Group{Package: "./b"}, []string{"^TestOne$"}},
		{Group{Package: "./a", Alone: "^TestTwo$/^x$"}, []string{"^TestTwo$/^x$"}},
		{Group{Package: "./a", Tags: "e2e"}, []string{"^TestOne$"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := want[0].Select(); got != "(^TestOne$)|(^TestTwo$)" {
		t.Errorf("selects %s", got)
	}
	if err := want[0].Ran([]string{"TestOne", "TestOne/x"}); err == nil {
		t.Error("a test that did not run was not reported")
	}
}
