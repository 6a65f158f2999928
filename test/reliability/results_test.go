// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARunChangesOnlyTheResultsThatItProduced(t *testing.T) {
	folder := tree(t, map[string]string{resultsFile: `{"R1": {"tests": {"date": "2026-05-01", "commit": "aaa", "good": 6, "of": 7}}, "S1": {"breaks": {"date": "2026-05-01", "commit": "aaa", "good": 1, "of": 1}}}`})
	today := func(good, of int) *Seen { return &Seen{Date: "2026-05-02", Commit: "bbb", Good: good, Of: of} }
	for _, seen := range []map[string]Result{{"R1": {Breaks: today(3, 3)}}, {"R2": {Tests: today(2, 2)}}, {"R2": {Breaks: today(1, 2)}}} {
		if err := Record(folder, seen); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Results(folder)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for class, one := range all {
		got[class] = one.String()
	}
	want := map[string]string{
		"R1": "Seen 2026-05-01 at aaa: 6 of 7 tests passed. Seen 2026-05-02 at bbb: 3 of 3 breaks caught.",
		"R2": "Seen 2026-05-02 at bbb: 2 of 2 tests passed, 1 of 2 breaks caught.",
		"S1": "Seen 2026-05-01 at aaa: 1 of 1 breaks caught.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutARecordThereIsNoResult(t *testing.T) {
	got, err := Results(t.TempDir())
	if err != nil || len(got) > 0 || got["R1"].String() != "" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Results(tree(t, map[string]string{resultsFile: "[]"})); err == nil {
		t.Error("Results read a file of another shape")
	}
}

func TestOnlyExistingClassesHaveResults(t *testing.T) {
	all, err := Results(root)
	if err != nil {
		t.Fatal(err)
	}
	for class := range all {
		if !slices.Contains(Classes(), class) {
			t.Errorf("%s has a result for class %q, which does not exist", resultsFile, class)
		}
	}
}
