// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// matrix holds the results of the crash matrix: every life, each of its steps, every fault of that step, and the outcome.
type matrix struct {
	Lives []life `json:"lives"`
}

type life struct {
	Kind  string `json:"kind"`
	Life  string `json:"life"`
	Steps []step `json:"steps"`
}

type step struct {
	Number int               `json:"n"`
	Step   string            `json:"step"`
	Faults map[string]string `json:"faults"`
}

// settled is the outcome of a fault after which the life completed and every invariant held.
const settled = "settled"

// faults are the columns, in the order in which they are explained.
var faults = []struct{ name, meaning string }{
	{"before", "it fails before it takes effect"},
	{"after", "it takes effect, and fails anyway"},
	{"lost", "it takes effect, and no answer comes until the deadline"},
	{"conflict", "it is refused with a conflict (409); for a create, that includes an object that already exists"},
	{"timeout", "it has no effect, and no answer comes until the deadline"},
}

// fates explains a cell.
const fates = `
A ✓ stands for one life or more. In the first, the process restarts after the reconcile with the fault and remembers nothing. For
every effect that changes something there is a second one, in which the process dies on the spot, so nothing that it does afterwards
has an effect. In a sample there is a third one, in which the process lives on and keeps its memory.
`

// readMatrix reads the file that the test wrote. A matrix that is missing, empty or of another shape is an error: the page
// must not omit what it promises.
func readMatrix(file string) (matrix, error) {
	var out matrix
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return out, fmt.Errorf("the crash matrix %s does not exist: the test in its folder writes it with -update", file)
	}
	if err != nil {
		return out, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		return out, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(out.Lives) == 0 {
		return out, fmt.Errorf("the crash matrix %s holds no lives", file)
	}
	for _, one := range out.Lives {
		for _, step := range one.Steps {
			for fault := range step.Faults {
				if !slices.ContainsFunc(faults, func(known struct{ name, meaning string }) bool { return known.name == fault }) {
					return out, fmt.Errorf("%s: step %d of %s, %s, has a fault %q that the page does not know", file, step.Number, one.Kind, one.Life, fault)
				}
			}
		}
	}
	return out, nil
}

// write appends the matrix to the page: a line for each life, then a line for each step.
func (m matrix) write(out *strings.Builder) {
	out.WriteString("| fault | meaning |\n|---|---|\n")
	for _, fault := range faults {
		fmt.Fprintf(out, "| %s | %s |\n", fault.name, fault.meaning)
	}
	out.WriteString(fates + "\n| kind | life | steps | faults | settled |\n|---|---|---|---|---|\n")
	for _, one := range m.Lives {
		tried, fine := one.count()
		fmt.Fprintf(out, "| %s | %s | %d | %d | %d |\n", one.Kind, cell(one.Life), len(one.Steps), tried, fine)
	}
	for _, one := range m.Lives {
		fmt.Fprintf(out, "\n<details><summary>%s: %s</summary>\n\n| # | step |", one.Kind, one.Life)
		for _, fault := range faults {
			fmt.Fprintf(out, " %s |", fault.name)
		}
		out.WriteString("\n|---|---|" + strings.Repeat("---|", len(faults)) + "\n")
		for _, step := range one.Steps {
			fmt.Fprintf(out, "| %d | %s |", step.Number, cell(step.Step))
			for _, fault := range faults {
				fmt.Fprintf(out, " %s |", outcome(step.Faults[fault.name]))
			}
			out.WriteString("\n")
		}
		out.WriteString("\n</details>\n")
	}
}

func (l life) count() (tried, fine int) {
	for _, step := range l.Steps {
		for _, became := range step.Faults {
			tried++
			if became == settled {
				fine++
			}
		}
	}
	return tried, fine
}

// outcome returns a cell: a tick if every invariant held, a dot if the fault cannot happen, otherwise the failure.
func outcome(text string) string {
	switch text {
	case settled:
		return "✓"
	case "":
		return "·"
	}
	return cell(text)
}
