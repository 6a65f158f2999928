// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conditions reads the types and reasons of conditions, with their comments, from Go source: from the
// blocks of constants of api/v1alpha1/conditions.go and internal/fault/reasons.go.
package conditions

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
)

// Group is one block of constants. Title is the first sentence of the block's comment, Rest is the rest.
type Group struct {
	Title, Rest string
	Words       []Word
}

// Warning reports whether the reasons of a group are of type Warning, by its title.
func (g Group) Warning() bool { return strings.HasPrefix(g.Title, "Warning reasons") }

// Word is one constant: its name in Go, its value, and its comment without the name in front.
type Word struct {
	Name, Value, Meaning string
}

// Parse reads the groups of a file, in the file's order. A constant without comment is an error.
func Parse(file string) ([]Group, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("reading the constants of %s: %w", file, err)
	}
	var groups []Group
	for _, declaration := range parsed.Decls {
		block, ok := declaration.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		group, err := read(block)
		if err != nil {
			return nil, fmt.Errorf("reading the constants of %s: %w", file, err)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

func read(block *ast.GenDecl) (Group, error) {
	title, rest, _ := strings.Cut(sentence(block.Doc), ". ")
	group := Group{Title: strings.TrimSuffix(title, "."), Rest: rest}
	for _, spec := range block.Specs {
		constant, ok := spec.(*ast.ValueSpec)
		if !ok || len(constant.Names) != 1 || len(constant.Values) != 1 {
			return group, fmt.Errorf("a constant of %q is not one name with one value", group.Title)
		}
		name := constant.Names[0].Name
		literal, ok := constant.Values[0].(*ast.BasicLit)
		if !ok {
			return group, fmt.Errorf("%s is not a literal", name)
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			return group, fmt.Errorf("reading the value of %s: %w", name, err)
		}
		meaning, ok := strings.CutPrefix(sentence(constant.Doc), name+": ")
		if !ok {
			return group, fmt.Errorf("the comment of %s does not start with \"%s: \"", name, name)
		}
		group.Words = append(group.Words, Word{Name: name, Value: value, Meaning: meaning})
	}
	return group, nil
}

// sentence returns a comment as one line.
func sentence(comment *ast.CommentGroup) string {
	return strings.Join(strings.Fields(comment.Text()), " ")
}
