// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Rows is the folder of the rows, relative to the root of the repository.
const Rows = "test/reliability/rows"

// Row is the promise for one class, and its proof.
type Row struct {
	// Class is the name, such as R2; the file has the same name.
	Class string `json:"class"`
	// Title is what goes wrong, in one line.
	Title string `json:"title"`
	// Guard describes how rekey prevents it, in one or two sentences.
	Guard string `json:"guard"`
	// Tests prove it.
	Tests []Test `json:"tests,omitempty"`
	// Breaks are changes to the product that must make a test fail.
	Breaks []Break `json:"breaks,omitempty"`
	// Absent explains why this cannot go wrong in anything that exists. The row then has no tests.
	Absent string `json:"absent,omitempty"`
	// NoBreak explains why no textual change breaks the promise.
	NoBreak string `json:"nobreak,omitempty"`
}

// Test is a test, or several that one expression selects.
type Test struct {
	// Package is the folder, such as ./controllers.
	Package string `json:"package"`
	// Run is the -run expression for go test.
	Run string `json:"run"`
	// Shows describes in one line what the test shows.
	Shows string `json:"shows"`
	// Tags are build tags, separated by commas.
	Tags string `json:"tags,omitempty"`
}

// stages lists the stages with folders of their own, and the build tag that some of them need.
var stages = []struct{ folder, tag, stage string }{
	{folder: "./test/crash", stage: "crash"},
	{folder: "./test/faults", stage: "crash"},
	{folder: "./test/e2e", tag: "e2e", stage: "e2e"},
	{folder: "./test/bench", tag: "bench", stage: "bench"},
}

// Stage returns the stage of continuous integration that runs the test, as in hack/test.sh.
func (t Test) Stage() string {
	for _, candidate := range stages {
		if strings.HasPrefix(t.Package+"/", candidate.folder+"/") && t.Tags == candidate.tag {
			return candidate.stage
		}
	}
	return "test"
}

// Break is a deliberate mistake in the product.
type Break struct {
	// Name describes the mistake in a few words.
	Name string `json:"name"`
	// File is the changed file, relative to the root of the repository.
	File string `json:"file"`
	// Find is a text that occurs in the file exactly once.
	Find string `json:"find"`
	// Replace replaces it. The file still compiles.
	Replace string `json:"replace"`
	// Package, Run and Tags select the test that must fail.
	Package string `json:"package"`
	Run     string `json:"run"`
	Tags    string `json:"tags,omitempty"`
}

// Guard returns the test that must fail.
func (b Break) Guard() Test { return Test{Package: b.Package, Run: b.Run, Tags: b.Tags} }

// Apply returns the text of the file with the mistake. It ignores trailing line ends of both texts.
func (b Break) Apply(source string) (string, error) {
	find, replace := strings.TrimRight(b.Find, "\n"), strings.TrimRight(b.Replace, "\n")
	if find == "" || find == replace {
		return "", errors.New("find is empty, or replace is the same")
	}
	if count := strings.Count(source, find); count != 1 {
		return "", fmt.Errorf("the text in find occurs %d times in %s, not once", count, b.File)
	}
	return strings.Replace(source, find, replace, 1), nil
}

// Load reads the rows of a folder, in the order of the classes. An unknown field is an error, and so is a file that is not
// named after its class.
func Load(folder string) ([]Row, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no rows", folder)
	}
	var rows []Row
	var problems []error
	for _, file := range files {
		row, err := load(file)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", file, err))
			continue
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return order(a.Class) - order(b.Class) })
	return rows, errors.Join(problems...)
}

func load(file string) (Row, error) {
	var row Row
	text, err := os.ReadFile(file)
	if err != nil {
		return row, err
	}
	if err := yaml.UnmarshalStrict(text, &row); err != nil {
		return row, err
	}
	if order(row.Class) < 0 {
		return row, fmt.Errorf("there is no class %q", row.Class)
	}
	if filepath.Base(file) != row.Class+".yaml" {
		return row, fmt.Errorf("the file of class %s must be named %s.yaml", row.Class, row.Class)
	}
	return row, nil
}

// Select returns the rows of some classes, separated by commas, or of all. Root is the folder of the repository.
func Select(root, classes string) ([]Row, error) {
	rows, err := Load(filepath.Join(root, filepath.FromSlash(Rows)))
	if err != nil || classes == "" {
		return rows, err
	}
	var out []Row
	for class := range strings.SplitSeq(classes, ",") {
		at := slices.IndexFunc(rows, func(row Row) bool { return row.Class == strings.TrimSpace(class) })
		if at < 0 {
			return nil, fmt.Errorf("there is no row for class %q; there are R1 to R34, S1 to S18, T1 to T10 and I1 to I10", class)
		}
		out = append(out, rows[at])
	}
	return out, nil
}
