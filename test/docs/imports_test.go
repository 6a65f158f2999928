// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	module = "github.com/rekey/rekey/"
	// program is the package at the root, as the table of imports calls it.
	program = "main"
)

// importRule is one list of depguard.
type importRule struct {
	Mode  string   `json:"list-mode"`
	Files []string `json:"files"`
	Allow []string `json:"allow"`
}

// importRules returns the strict lists of depguard by name: those that forbid everything that they do not name.
func importRules(t *testing.T) map[string]importRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var configuration struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]importRule `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		t.Fatal(err)
	}
	rules := configuration.Linters.Settings.Depguard.Rules
	maps.DeleteFunc(rules, func(_ string, rule importRule) bool { return rule.Mode != "strict" })
	return rules
}

// covers reports whether a strict list is about a file of the package.
func (r importRule) covers(folder string) bool {
	return slices.ContainsFunc(r.Files, func(pattern string) bool {
		pattern = strings.NewReplacer("${base-path}", program, "**/*.go", "**", "**/", "", "/*.go", "").Replace(pattern)
		if below, ok := strings.CutSuffix(pattern, "/**"); ok {
			return strings.HasPrefix(folder, below+"/")
		}
		same, err := path.Match(pattern, folder)
		return err == nil && same
	})
}

// productPackages returns the folders of the program's packages; the one at the root is called main.
func productPackages(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, top := range []string{".", "api", "cmd", "controllers", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(file string, entry fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case entry.IsDir() && (entry.Name() == "testdata" || top == "." && file != filepath.Join(root, top)):
				return filepath.SkipDir
			case filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go"):
				return nil
			}
			folder, err := filepath.Rel(root, filepath.Dir(file))
			if folder == "." {
				folder = program
			}
			found[filepath.ToSlash(folder)] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// floors returns the packages of the table of imports in CONTRIBUTING.md, row by row.
func floors(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "**Import rules**")
	table, _, _ = strings.Cut(table, "Tests may import more.")
	var out [][]string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			var row []string
			for _, name := range regexp.MustCompile("`([a-z0-9/*]+)`").FindAllStringSubmatch(cells[1], -1) {
				row = append(row, name[1])
			}
			if row != nil {
				out = append(out, row)
			}
		}
	}
	return out
}

// floorOf returns the row of the package; -1 if it has none.
func floorOf(rows [][]string, folder string) int {
	folder = strings.TrimSuffix(folder, "/v1alpha1")
	exact, below := -1, -1
	for i, row := range rows {
		for _, name := range row {
			if name == folder {
				exact = i
			}
			if parent, ok := strings.CutSuffix(name, "/*"); ok && strings.HasPrefix(folder, parent+"/") {
				below = i
			}
		}
	}
	return max(exact, below)
}

func TestEveryPackageHasAnImportRule(t *testing.T) {
	rules, rows := importRules(t), floors(t)
	for _, folder := range productPackages(t) {
		var covering []string
		for name, rule := range rules {
			if rule.covers(folder) {
				covering = append(covering, name)
			}
		}
		if len(covering) != 1 {
			t.Errorf("%s has %d strict lists of imports in .golangci.yml (%q), want 1", folder, len(covering), covering)
		}
		if floorOf(rows, folder) < 0 {
			t.Errorf("the table of imports in CONTRIBUTING.md lacks %s", folder)
		}
	}
}

// The table goes up: a package imports only packages of rows above its own, so no rule allows an import that leads back.
func TestNoImportRuleAllowsAPackageOfAHigherFloor(t *testing.T) {
	rows := floors(t)
	rules := importRules(t)
	for _, folder := range productPackages(t) {
		for name, rule := range rules {
			if !rule.covers(folder) {
				continue
			}
			for _, allowed := range rule.Allow {
				to, ours := strings.CutPrefix(allowed, module)
				if to, exact := strings.CutSuffix(to, "$"); !ours {
					continue
				} else if !exact && folder != program {
					t.Errorf("rule %s allows everything below %s: end it with $", name, to)
				} else if own, other := floorOf(rows, folder), floorOf(rows, to); other > own {
					t.Errorf("rule %s allows %s to import %s, which CONTRIBUTING.md lists below it", name, folder, to)
				} else if other < 0 {
					t.Errorf("rule %s allows %s, which the table of imports in CONTRIBUTING.md lacks", name, to)
				}
			}
		}
	}
}

// The picture in docs/architecture.md shows imports that the rules allow, and its table has every package.
func TestTheArchitecturePageShowsThePackagesAsTheyAre(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Packages\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, folder := range productPackages(t) {
		if name := strings.TrimPrefix(folder, "internal/"); folder != program && !strings.Contains(section, "`"+folder+"`") && !strings.Contains(section, "`"+name+"`") {
			t.Errorf("the table of packages in docs/architecture.md lacks %s", folder)
		}
	}
	rules, arrows := importRules(t), 0
	label := regexp.MustCompile(`\["[^"]*"\]`)
	for line := range strings.Lines(section) {
		from, to, found := strings.Cut(label.ReplaceAllString(line, ""), "-->")
		for target := range strings.SplitSeq(to, "&") {
			if !found {
				continue
			}
			arrows++
			source, target := folderOf(from), folderOf(target)
			if !slices.ContainsFunc(slices.Collect(maps.Values(rules)), func(rule importRule) bool { return rule.covers(source) && rule.allows(target) }) {
				t.Errorf("docs/architecture.md shows that %s imports %s, which no rule allows", source, target)
			}
		}
	}
	if arrows < 20 {
		t.Errorf("the picture in docs/architecture.md has %d arrows", arrows)
	}
}

// folderOf returns the folder of a node in the picture.
func folderOf(node string) string {
	node = strings.ReplaceAll(strings.TrimSpace(node), "_", "/")
	if node == program || node == "controllers" {
		return node
	}
	return "internal/" + node
}

// allows reports whether the list allows an import of the package.
func (r importRule) allows(folder string) bool {
	return slices.ContainsFunc(r.Allow, func(allowed string) bool {
		exact, bounded := strings.CutSuffix(allowed, "$")
		return exact == module+folder || !bounded && strings.HasPrefix(module+folder, allowed)
	})
}
