// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Missing returns the classes without a row.
func Missing(rows []Row) []string {
	var out []string
	for _, class := range Classes() {
		if !slices.ContainsFunc(rows, func(row Row) bool { return row.Class == class }) {
			out = append(out, class)
		}
	}
	return out
}

// Check returns what is wrong with a row: a missing field, a test that does not exist, a break that no longer matches the
// source. Root is the folder of the repository.
func Check(root string, row Row) []error {
	var problems []error
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf(row.Class+": "+format, args...))
	}
	if row.Title == "" {
		complain("it has no title: what goes wrong")
	}
	switch {
	case row.Absent != "" && (len(row.Tests) > 0 || len(row.Breaks) > 0 || row.NoBreak != ""):
		complain("an absent class has neither tests nor breaks")
	case row.Absent != "":
	case row.Guard == "":
		complain("it has no guard: how rekey prevents it")
	case len(row.Tests) == 0:
		complain("it has no tests; if it applies to nothing that exists, explain in absent")
	case len(row.Breaks) == 0 && row.NoBreak == "":
		complain("it has no break; if none is possible, explain in nobreak")
	case len(row.Breaks) > 0 && row.NoBreak != "":
		complain("it has both breaks and nobreak")
	}
	for _, test := range row.Tests {
		if test.Shows == "" {
			complain("test %s in %s has no shows", test.Run, test.Package)
		}
		if err := exists(root, test); err != nil {
			complain("%w", err)
		}
	}
	for number, mistake := range row.Breaks {
		if mistake.Name == "" {
			complain("break %d has no name", number+1)
		}
		if slices.ContainsFunc(row.Breaks[:number], func(b Break) bool { return b.Name == mistake.Name }) {
			complain("two breaks are named %q", mistake.Name)
		}
		if err := errors.Join(fits(root, mistake), exists(root, mistake.Guard())); err != nil {
			complain("break %q: %w", mistake.Name, err)
		}
		if !slices.ContainsFunc(row.Tests, mistake.guardedBy) {
			complain("break %q: its guard %s in %s is not among the tests of the row", mistake.Name, mistake.Run, mistake.Package)
		}
	}
	return problems
}

// guardedBy reports whether a test of the row is the guard, or contains it as a subtest.
func (b Break) guardedBy(test Test) bool {
	return test.Package == b.Package && test.Tags == b.Tags && (test.Run == b.Run || strings.HasPrefix(b.Run, test.Run+"/"))
}

// fits returns an error if a break cannot be applied to the current source.
func fits(root string, mistake Break) error {
	if strings.HasSuffix(mistake.File, "_test.go") {
		return fmt.Errorf("%s is a test: a break must change the product", mistake.File)
	}
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(mistake.File)))
	if err != nil {
		return err
	}
	_, err = mistake.Apply(string(source))
	return err
}

// exists returns an error if the expression selects no test in its package, built with the tags, or if it names a subtest that
// nothing in the sources can create. Only make try and make mutate, which run it, know that it selects one.
func exists(root string, test Test) error {
	if !strings.HasPrefix(test.Package, "./") || strings.Contains(test.Package, "...") {
		return fmt.Errorf("package %q is not the folder of a single package, such as ./controllers", test.Package)
	}
	first, _, _ := strings.Cut(test.Run, "/")
	if !strings.HasPrefix(first, "^") || !strings.HasSuffix(first, "$") {
		return fmt.Errorf("run %q selects more than it names: write ^%s$", test.Run, strings.Trim(first, "^$"))
	}
	selects, err := regexp.Compile(first)
	if err != nil {
		return fmt.Errorf("run %q: %w", test.Run, err)
	}
	names, err := namesIn.of(filepath.Join(root, filepath.FromSlash(test.Package)) + "\n" + test.Tags)
	if err != nil {
		return fmt.Errorf("looking for %s in %s: %w", test.Run, test.Package, err)
	}
	if !slices.ContainsFunc(names, selects.MatchString) {
		return fmt.Errorf("no test in %s matches %s (tags %q)", test.Package, first, test.Tags)
	}
	return subtestsExist(root, test)
}

// namesIn remembers the tests of a folder and, after a line break, tags.
var namesIn = memory[[]string]{read: func(key string) ([]string, error) {
	folder, tags, _ := strings.Cut(key, "\n")
	return testNames(folder, tags)
}}

// testNames returns the tests and fuzz targets of a folder that are built with the tags.
func testNames(folder, tags string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("the folder has no test files")
	}
	setting := build.Default
	setting.BuildTags = strings.FieldsFunc(tags, func(r rune) bool { return r == ',' || r == ' ' })
	var out []string
	for _, file := range files {
		built, err := setting.MatchFile(folder, filepath.Base(file))
		if err != nil {
			return nil, err
		}
		if !built {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declared := range parsed.Decls {
			if function, ok := declared.(*ast.FuncDecl); ok && function.Recv == nil && isTest(function.Name.Name) {
				out = append(out, function.Name.Name)
			}
		}
	}
	return out, nil
}

func isTest(name string) bool {
	return name != "TestMain" && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz"))
}
