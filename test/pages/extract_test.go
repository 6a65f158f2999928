// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/test/world"
)

// snippet is a piece of a page for readers to copy.
type snippet struct {
	page     string
	language string
	text     string
}

var (
	fenced = regexp.MustCompile("(?ms)^[ \t]*```([a-z]*)\n(.*?)^[ \t]*```")
	inline = regexp.MustCompile("`((?:kubectl|openssl|make|go|FORCE=1 make|hack/[a-z-]+\\.sh) [^`]+)`")
)

// Generated pages quote other pages.
var generated = []string{"docs/api.md", "docs/conditions.md", "docs/reliability.md"}

// snippets returns the snippets of every page. Indented code and commands in a line of text count as shell.
func snippets(t *testing.T) []snippet {
	t.Helper()
	var out []snippet
	for _, page := range markdown(t) {
		out = append(out, snippetsOf(page.page, page.text)...)
	}
	return out
}

// markdown returns every whole page.
func markdown(t *testing.T) []snippet {
	t.Helper()
	root := world.Root()
	var out []snippet
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin" || entry.Name() == "node_modules"
		switch {
		case entry.IsDir() && hidden && path != root:
			return fs.SkipDir
		case filepath.Ext(name) != ".md" || slices.Contains(generated, name):
			return nil
		}
		text, err := os.ReadFile(path)
		out = append(out, snippet{page: name, text: string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func snippetsOf(page, text string) []snippet {
	var out []snippet
	for _, found := range fenced.FindAllStringSubmatch(text, -1) {
		out = append(out, snippet{page, found[1], found[2]})
	}
	text = fenced.ReplaceAllString(text, "")
	var indented []string
	paragraph := false // indented lines cannot interrupt a paragraph (CommonMark): they continue a list item
	for line := range strings.SplitSeq(text, "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok && !paragraph {
			indented = append(indented, code)
			continue
		}
		paragraph = strings.TrimSpace(line) != ""
		for _, found := range inline.FindAllStringSubmatch(line, -1) {
			out = append(out, snippet{page, "sh", found[1]})
		}
	}
	return append(out, snippet{page, "sh", strings.Join(indented, "\n")})
}

// commands returns the lines of a shell snippet, without their comments.
func (s snippet) commands() []string {
	var out []string
	for line := range strings.SplitSeq(strings.ReplaceAll(s.text, "\\\n", " "), "\n") {
		line = strings.TrimSpace(trailing.ReplaceAllString(line, ""))
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// trailing matches a comment at the end of a command.
var trailing = regexp.MustCompile(`\s+#\s.*$`)

func shell(t *testing.T) []snippet {
	t.Helper()
	return slices.DeleteFunc(snippets(t), func(s snippet) bool { return s.language != "sh" })
}

func TestSnippetsAreFoundInEveryForm(t *testing.T) {
	text := "Run `kubectl get pods -A`.\n\n```sh\nmake test   # all\n```\n\n    go test ./x\n\n```sql\nSELECT 1;\n```\n"
	got := snippetsOf("page.md", text)
	var all []string
	for _, one := range got {
		all = append(all, one.language+": "+strings.Join(one.commands(), "; "))
	}
	for _, want := range []string{"sh: make test", "sql: SELECT 1;", "sh: kubectl get pods -A", "sh: go test ./x"} {
		if !slices.Contains(all, want) {
			t.Errorf("%q is not among %q", want, all)
		}
	}
}
