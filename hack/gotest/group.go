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

// Group is what one run of go test can hold. A test of some subtests has one for itself.
type Group struct {
	Package, Tags, Alone string
}

// Grouped are tests of one group.
type Grouped struct {
	Group

	Runs []string
}

// GroupOf is the group that a test belongs to.
func GroupOf(test reliability.Test) Group {
	group := Group{Package: test.Package, Tags: test.Tags}
	if strings.Contains(test.Run, "/") {
		group.Alone = test.Run
	}
	return group
}

// Groups puts tests together that one run can hold, in their order; each is named once.
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

// Select is the expression for all of them.
func (g Grouped) Select() string {
	if len(g.Runs) == 1 {
		return g.Runs[0]
	}
	return "(" + strings.Join(g.Runs, ")|(") + ")"
}

// Ran is an error for every expression that selected none of the tests.
func (g Grouped) Ran(tests []string) error {
	var problems []error
	for _, run := range g.Runs {
		if !Selected(run, tests) {
			problems = append(problems, fmt.Errorf("no test matches %s", run))
		}
	}
	return errors.Join(problems...)
}
