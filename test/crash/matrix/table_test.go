// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/rekey/rekey/test/size"
)

// These types are checked in, and shown on the reliability page.
type (
	table struct {
		mu        sync.Mutex
		known     map[string][]string
		checkedIn file
		found     file
	}
	file struct {
		Lives []*lifeResult `json:"lives"`
	}
	lifeResult struct {
		Kind  string        `json:"kind"`
		Life  string        `json:"life"`
		Steps []*stepResult `json:"steps"`
	}
	stepResult struct {
		Number int              `json:"n"`
		Step   string           `json:"step"`
		Faults map[fault]string `json:"faults"`
	}
)

const (
	matrixFile = "testdata/matrix.json"
	settled    = "settled"
)

// newTable reads the checked-in table.
func newTable(t *testing.T) *table {
	t.Helper()
	out := &table{known: map[string][]string{}}
	text, err := os.ReadFile(matrixFile)
	if os.IsNotExist(err) && *update {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out.checkedIn); err != nil {
		t.Fatalf("reading %s: %v", matrixFile, err)
	}
	for _, l := range out.checkedIn.Lives {
		names := []string{}
		for _, s := range l.Steps {
			names = append(names, s.Step)
		}
		out.known[l.Kind+", "+l.Life] = names
	}
	return out
}

// steps records the steps of a life, and compares them with the checked-in ones.
func (m *table) steps(t *testing.T, of life, effects []effect) {
	t.Helper()
	result := &lifeResult{Kind: of.kind.name, Life: of.name, Steps: []*stepResult{}}
	names := []string{}
	for i, e := range effects {
		result.Steps = append(result.Steps, &stepResult{Number: i + 1, Step: e.name, Faults: map[fault]string{}})
		names = append(names, e.name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.result(of) == nil {
		m.found.Lives = append(m.found.Lives, result)
	}
	if *update {
		return
	}
	if was := m.known[of.String()]; !slices.Equal(was, names) {
		t.Errorf("the steps of this life have changed; if that is intended: REKEY_SIZE=full go test ./test/crash/matrix -timeout 40m -update, and make docs\nchecked in: %q\nfound:      %q", was, names)
	}
}

func (m *table) result(of life) *lifeResult {
	for _, l := range m.found.Lives {
		if l.Kind == of.kind.name && l.Life == of.name {
			return l
		}
	}
	return nil
}

// note records the outcome of a fault. All fates of the process and all versions share one cell, which shows the worst outcome.
func (m *table) note(of life, o order, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	result := m.result(of)
	if o.step > len(result.Steps) {
		return
	}
	cells := result.Steps[o.step-1].Faults
	switch {
	case err != nil:
		cells[o.fault] = err.Error()
	case cells[o.fault] == "":
		cells[o.fault] = settled
	}
}

// close prints the results. With -update it also writes them to the checked-in file, where the lives of this run replace their
// previous entries.
func (m *table) close(t *testing.T) {
	t.Helper()
	m.print()
	if !*update {
		return
	}
	if t.Failed() || *only != "" || !size.Full() {
		t.Fatal("nothing was written: -update needs REKEY_SIZE=full, and every fault must be tested and survived")
	}
	var kept []*lifeResult
	for _, of := range theLives() {
		now := m.result(of)
		if now == nil {
			now = m.before(of)
		}
		if now != nil {
			kept = append(kept, now)
		}
	}
	if err := os.WriteFile(matrixFile, encode(t, kept), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *table) before(of life) *lifeResult {
	for _, l := range m.checkedIn.Lives {
		if l.Kind == of.kind.name && l.Life == of.name {
			return l
		}
	}
	return nil
}

// encode writes one line per step, so that diffs are readable.
func encode(t *testing.T, lives []*lifeResult) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("{\"lives\":[")
	for i, l := range lives {
		if i > 0 {
			out.WriteString(",")
		}
		fmt.Fprintf(&out, "\n{\"kind\":%q,\"life\":%q,\"steps\":[", l.Kind, l.Life)
		for j, s := range l.Steps {
			if j > 0 {
				out.WriteString(",")
			}
			line, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString("\n")
			out.Write(line)
		}
		out.WriteString("]}")
	}
	out.WriteString("]}\n")
	return out.Bytes()
}

// print prints one line per step, with a dot for each fault that is impossible or not in the sample.
func (m *table) print() {
	columns := []fault{before, after, lost, conflict, timeout}
	for _, l := range m.found.Lives {
		fmt.Printf("\n%s, %s\n     %-44s", l.Kind, l.Life, "")
		for _, f := range columns {
			fmt.Printf(" %-9s", f)
		}
		fmt.Println()
		for _, s := range l.Steps {
			fmt.Printf("%4d %-44s", s.Number, s.Step)
			for _, f := range columns {
				cell := s.Faults[f]
				switch cell {
				case "":
					cell = "."
				case settled:
				default:
					cell = "FAILED"
				}
				fmt.Printf(" %-9s", cell)
			}
			fmt.Println()
		}
	}
}
