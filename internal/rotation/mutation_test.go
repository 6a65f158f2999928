// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/rotation"
)

// Mutants are generated from the table. The judgments and the pairs of rows must detect each, except those in
// testdata/survivors.txt, which states why each of them is harmless. The simulation in internal/lifecycle runs the same
// mutants.

// mutant is a damaged table.
type mutant struct {
	name string
	rows []rotation.Row
}

func mutants() []mutant {
	var all []mutant
	rows := rotation.Rows()
	for i, row := range rows {
		all = append(all, mutant{name: "without row " + row.Name, rows: slices.Delete(rotation.Rows(), i, i+1)})
	}
	for i := range rows[1:] {
		turned := rotation.Rows()
		turned[i], turned[i+1] = turned[i+1], turned[i]
		all = append(all, mutant{name: fmt.Sprintf("row %s before %s", rows[i+1].Name, rows[i].Name), rows: turned})
	}
	return all
}

// judged returns which judgment or pair detects the mutant.
func (m mutant) judged(pairs []contest) (noticed string) {
	defer func() {
		if r := recover(); r != nil {
			noticed = fmt.Sprint("panic: ", r)
		}
	}()
	for name, tc := range judgments {
		if wrong := tc.wrong(m.rows); wrong != "" {
			return name + ": " + wrong
		}
	}
	for _, c := range pairs {
		if d := rotation.Decide(m.rows, c.see); d.Row != c.first {
			return fmt.Sprintf("%s should win over %s", c.first, c.second)
		}
	}
	return ""
}

func TestEveryMutantIsNoticedOrKnownToBeHarmless(t *testing.T) {
	t.Parallel()
	pairs, all := contests(), mutants()
	listed := readSurvivors(t)
	survived := 0
	for _, m := range all {
		_, known := listed[m.name]
		delete(listed, m.name)
		noticed := m.judged(pairs)
		switch {
		case noticed != "" && known:
			t.Errorf("testdata/survivors.txt lists %q, but it is detected: %s", m.name, noticed)
		case noticed != "":
			if testing.Verbose() {
				t.Logf("%s: %s", m.name, noticed)
			}
		case !known:
			t.Errorf("the mutant %q survives, and testdata/survivors.txt does not state why that is harmless", m.name)
		default:
			survived++
		}
	}
	for name := range listed {
		t.Errorf("testdata/survivors.txt lists %q, which is not a mutant", name)
	}
	t.Logf("%d mutants: the tests of the table notice %d, and %d survive", len(all), len(all)-survived, survived)
}

// readSurvivors reads lines of the form "mutant: reason".
func readSurvivors(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/survivors.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || len(reason) < 20 {
			t.Errorf("testdata/survivors.txt: %q has no reason", line)
		}
		listed[name] = reason
	}
	return listed
}
