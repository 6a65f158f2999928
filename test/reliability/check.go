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

// Missing are the classes that have no row.
func Missing(rows []Row) []string {
	var out []string
	for _, class := range Classes() {
		if !slices.ContainsFunc(rows, func(row Row) bool { return row.Class == class }) {
			out = append(out, class)
		}
	}
	return out
}

// Check says what is wrong with a row: a word that is missing, a test that does not exist, a break that does not fit the
// source any more. Root is the folder of the repository.
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
		complain("a class that is absent has neither tests nor breaks")
	case row.Absent != "":
	case row.Guard == "":
		complain("it has no guard: how rekey prevents it")
	case len(row.Tests) == 0:
		complain("it has no tests; where it applies to nothing that exists, absent says why")
	case len(row.Breaks) == 0 && row.NoBreak == "":
		complain("it has no break; where none is possible, nobreak says why")
	case len(row.Breaks) > 0 && row.NoBreak != "":
		complain("it has breaks, and nobreak says that there are none")
	}
	for _, test := range row.Tests {
		if test.Shows == "" {
			complain("test %s in %s does not say what it shows", test.Run, test.Package)
		}
		if err := exists(root, test); err != nil {
			complain("%w", err)
		}
	}
	for number, one := range row.Breaks {
		if one.Name == "" {
			complain("break %d has no name", number+1)
		}
		if slices.ContainsFunc(row.Breaks[:number], func(b Break) bool { return b.Name == one.Name }) {
			complain("two breaks are called %q", one.Name)
		}
		if err := errors.Join(fits(root, one), exists(root, one.Guard())); err != nil {
			complain("break %q: %w", one.Name, err)
		}
		if !slices.ContainsFunc(row.Tests, one.guardedBy) {
			complain("break %q: its guard %s in %s is none of the tests of the row", one.Name, one.Run, one.Package)
		}
	}
	return problems
}

// guardedBy says whether a test of the row is the guard, or holds it as a subtest.
func (b Break) guardedBy(test Test) bool {
	return test.Package == b.Package && test.Tags == b.Tags && (test.Run == b.Run || strings.HasPrefix(b.Run, test.Run+"/"))
}

// fits says whether a break can be applied to the source as it is.
func fits(root string, one Break) error {
	if strings.HasSuffix(one.File, "_test.go") {
		return fmt.Errorf("%s is a test: it is the product that is to be broken", one.File)
	}
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(one.File)))
	if err != nil {
		return err
	}
	_, err = one.Apply(string(source))
	return err
}

// exists says whether the expression of a test selects one in its package, as it is built with the tags. Of a path of
// subtests only the first part can be known without running it; make try and make mutate look at the rest.
func exists(root string, test Test) error {
	if !strings.HasPrefix(test.Package, "./") || strings.Contains(test.Package, "...") {
		return fmt.Errorf("package %q is not the folder of one package, such as ./controllers", test.Package)
	}
	first, _, _ := strings.Cut(test.Run, "/")
	if !strings.HasPrefix(first, "^") || !strings.HasSuffix(first, "$") {
		return fmt.Errorf("run %q selects more than it names: write ^%s$", test.Run, strings.Trim(first, "^$"))
	}
	selects, err := regexp.Compile(first)
	if err != nil {
		return fmt.Errorf("run %q: %w", test.Run, err)
	}
	names, err := testNames(filepath.Join(root, filepath.FromSlash(test.Package)), test.Tags)
	if err != nil {
		return fmt.Errorf("looking for %s in %s: %w", test.Run, test.Package, err)
	}
	if !slices.ContainsFunc(names, selects.MatchString) {
		return fmt.Errorf("no test in %s matches %s (tags %q)", test.Package, first, test.Tags)
	}
	return nil
}

// testNames are the tests and fuzz targets of a folder that are built with the tags.
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
