// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rekey/rekey/test/reliability"
)

// Group identifies tests that one run of go test can execute. A test restricted to some subtests has its own group.
type Group struct {
	Package, Tags, Alone string
}

// Grouped is a group with its tests.
type Grouped struct {
	Group

	Runs []string
}

// GroupOf returns the group of a test.
func GroupOf(test reliability.Test) Group {
	group := Group{Package: test.Package, Tags: test.Tags}
	if strings.Contains(test.Run, "/") {
		group.Alone = test.Run
	}
	return group
}

// Groups groups tests in their order, without duplicates.
func Groups(tests []reliability.Test) []Grouped {
	var out []Grouped
	for _, test := range tests {
		at := slices.IndexFunc(out, func(g Grouped) bool { return g.Group == GroupOf(test) })
		if at < 0 {
			at = len(out)
			out = append(out, Grouped{Group: GroupOf(test)})
		}
		if !slices.Contains(out[at].Runs, test.Run) {
			out[at].Runs = append(out[at].Runs, test.Run)
		}
	}
	return out
}

// Select returns the expression that selects all of them.
func (g Grouped) Select() string {
	if len(g.Runs) == 1 {
		return g.Runs[0]
	}
	return "(" + strings.Join(g.Runs, ")|(") + ")"
}

// Ran returns an error for every expression that selected none of the tests.
func (g Grouped) Ran(tests []string) error {
	var problems []error
	for _, run := range g.Runs {
		if !Selected(run, tests) {
			problems = append(problems, fmt.Errorf("no test matches %s", run))
		}
	}
	return errors.Join(problems...)
}
