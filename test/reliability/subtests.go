// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	module = "github.com/rekey/rekey/"
	// shortest is how long a string or a name must be to count as a part: every text could be composed of shorter ones. A piece
	// of a formatted string may have shortestPiece.
	shortest, shortestPiece = 4, 2
)

var (
	verb  = regexp.MustCompile(`%[-+# 0-9.*]*[a-zA-Z]`)
	glue  = regexp.MustCompile(`^\PL+`)
	group = regexp.MustCompile(`\(([^()]*)\)`)
)

// subtestsExist returns an error if an expression for a subtest cannot be composed of the strings and names in the package's
// sources and in the packages of this repository that it imports. A misspelled name cannot; whether a test has exactly that
// subtest only shows when it runs.
func subtestsExist(root string, test Test) error {
	segments := strings.Split(test.Run, "/")[1:]
	if len(segments) == 0 {
		return nil
	}
	parts, err := partsOf(root, filepath.FromSlash(test.Package))
	if err != nil {
		return err
	}
	for _, segment := range segments {
		for _, text := range alternatives(segment) {
			if text != "." && !composed(text, parts) {
				return fmt.Errorf("no subtest of %s in %s can match %q: its words are not in the sources", test.Run, test.Package, segment)
			}
		}
	}
	return nil
}

// alternatives returns the texts of an expression, with their anchors: ^(a|b)$ is ^a$ and ^b$.
func alternatives(segment string) []string {
	found := group.FindStringSubmatchIndex(segment)
	if found == nil {
		return []string{segment}
	}
	var out []string
	for choice := range strings.SplitSeq(segment[found[2]:found[3]], "|") {
		out = append(out, segment[:found[0]]+choice+segment[found[1]:])
	}
	return out
}

// composed reports whether a text consists of parts, numbers and punctuation. Without an anchor, it may start or end inside a part.
func composed(text string, parts []string) bool {
	text, fromStart := strings.CutPrefix(text, "^")
	text, toEnd := strings.CutSuffix(text, "$")
	text = strings.ReplaceAll(text, "_", " ")
	reached := make([]bool, len(text)+1)
	reached[0] = true
	for at := range text {
		if !reached[at] {
			continue
		}
		rest := text[at:]
		reached[at+len(glue.FindString(rest))] = true
		for _, part := range parts {
			if same(rest, part) {
				reached[at+len(part)] = true
			}
			if !toEnd && len(rest) < len(part) && len(rest) >= shortest && same(part[:len(rest)], rest) {
				reached[len(text)] = true
			}
			for cut := 1; at == 0 && !fromStart && cut < len(part)-shortestPiece; cut++ {
				if same(rest, part[cut:]) {
					reached[len(part)-cut] = true
				}
			}
		}
	}
	return reached[len(text)]
}

// same reports whether a text starts with a part. A dot in the text stands for any character.
func same(text, part string) bool {
	if len(text) < len(part) {
		return false
	}
	for i := range len(part) {
		if text[i] != part[i] && text[i] != '.' {
			return false
		}
	}
	return true
}

// partsOf returns the strings and names in the sources of a package and of those that it imports from this repository. Strings
// are cut at the verbs of fmt, because names are formatted too.
func partsOf(root, folder string) ([]string, error) {
	own, err := partsIn.of(filepath.Join(root, folder))
	if err != nil {
		return nil, err
	}
	found := maps.Clone(own.parts)
	for _, imported := range own.imports {
		theirs, err := partsIn.of(filepath.Join(root, filepath.FromSlash(imported)))
		if err != nil {
			return nil, err
		}
		maps.Copy(found, theirs.parts)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// folderParts are the parts in a folder's sources, and what they import from this repository.
type folderParts struct {
	parts   map[string]bool
	imports []string
}

// partsIn remembers the parts: many rows name tests in the same folder.
var partsIn = memory[folderParts]{read: readParts}

func readParts(folder string) (folderParts, error) {
	found := map[string]bool{}
	imports, err := addParts(found, folder)
	return folderParts{found, imports}, err
}

// addParts adds the parts in a folder's sources, and returns what they import from this repository.
func addParts(found map[string]bool, folder string) (imports []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.ImportSpec:
				if path, ours := strings.CutPrefix(strings.Trim(node.Path.Value, `"`), module); ours {
					imports = append(imports, path)
				}
				return false
			case *ast.BasicLit:
				if text, err := strconv.Unquote(node.Value); err == nil {
					addString(found, text)
				}
			case *ast.Ident:
				addString(found, node.Name)
			}
			return true
		})
	}
	return imports, nil
}

func addString(found map[string]bool, text string) {
	least := shortest
	if verb.MatchString(text) {
		least = shortestPiece
	}
	for _, part := range verb.Split(text, -1) {
		if part = strings.TrimSpace(part); len(part) >= least {
			found[part] = true
		}
	}
}
