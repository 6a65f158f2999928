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

// Rows is the folder of the rows, seen from the root of the repository.
const Rows = "test/reliability/rows"

// Row is what is promised of one class, and how that is shown.
type Row struct {
	// Class is its name, such as R2; the file is called so too.
	Class string `json:"class"`
	// Title is what goes wrong, in one line.
	Title string `json:"title"`
	// Guard is how rekey prevents it, in one or two sentences.
	Guard string `json:"guard"`
	// Tests show it.
	Tests []Test `json:"tests,omitempty"`
	// Breaks are changes of the product after which a test must fail.
	Breaks []Break `json:"breaks,omitempty"`
	// Absent says why nothing of what exists can go wrong so. Then there are no tests.
	Absent string `json:"absent,omitempty"`
	// NoBreak says why no change of a text breaks the promise.
	NoBreak string `json:"nobreak,omitempty"`
}

// Test is one test, or several that one expression selects.
type Test struct {
	// Package is the folder, such as ./controllers.
	Package string `json:"package"`
	// Run is what -run of go test is given.
	Run string `json:"run"`
	// Shows is what the test shows, in one line.
	Shows string `json:"shows"`
	// Tags are build tags, divided by commas.
	Tags string `json:"tags,omitempty"`
}

// stages are the stages that run folders of their own, with the build tag that some of them need.
var stages = []struct{ folder, tag, stage string }{
	{folder: "./test/crash", stage: "crash"},
	{folder: "./test/faults", stage: "crash"},
	{folder: "./test/e2e", tag: "e2e", stage: "e2e"},
	{folder: "./test/bench", tag: "bench", stage: "bench"},
}

// Stage is the stage of continuous integration that runs the test, as hack/test.sh divides them.
func (t Test) Stage() string {
	for _, one := range stages {
		if strings.HasPrefix(t.Package+"/", one.folder+"/") && t.Tags == one.tag {
			return one.stage
		}
	}
	return "test"
}

// Break is a deliberate mistake in the product.
type Break struct {
	// Name is the mistake, in a few words.
	Name string `json:"name"`
	// File is what is changed, seen from the root of the repository.
	File string `json:"file"`
	// Find occurs in the file exactly once.
	Find string `json:"find"`
	// Replace takes its place. The file still compiles.
	Replace string `json:"replace"`
	// Package, Run and Tags are of the test that must fail.
	Package string `json:"package"`
	Run     string `json:"run"`
	Tags    string `json:"tags,omitempty"`
}

// Guard is the test that must fail.
func (b Break) Guard() Test { return Test{Package: b.Package, Run: b.Run, Tags: b.Tags} }

// Apply gives the text of the file with the mistake in it. Line ends at the end of both texts do not count.
func (b Break) Apply(source string) (string, error) {
	find, replace := strings.TrimRight(b.Find, "\n"), strings.TrimRight(b.Replace, "\n")
	if find == "" || find == replace {
		return "", errors.New("find is empty, or replace is the same")
	}
	if count := strings.Count(source, find); count != 1 {
		return "", fmt.Errorf("what is to be found occurs %d times in %s, not once", count, b.File)
	}
	return strings.Replace(source, find, replace, 1), nil
}

// Load reads the rows of a folder, in the order of the classes. A field that is unknown is an error, and so is a file that
// is called otherwise than its class.
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
		return row, fmt.Errorf("the file of class %s is called %s.yaml", row.Class, row.Class)
	}
	return row, nil
}

// Select gives the rows of some classes, divided by commas, or of all. Root is the folder of the repository.
func Select(root, classes string) ([]Row, error) {
	rows, err := Load(filepath.Join(root, filepath.FromSlash(Rows)))
	if err != nil || classes == "" {
		return rows, err
	}
	var out []Row
	for class := range strings.SplitSeq(classes, ",") {
		at := slices.IndexFunc(rows, func(row Row) bool { return row.Class == strings.TrimSpace(class) })
		if at < 0 {
			return nil, fmt.Errorf("there is no row for class %q; there are R1 to R29, S1 to S18, T1 to T9 and I1 to I10", class)
		}
		out = append(out, rows[at])
	}
	return out, nil
}
