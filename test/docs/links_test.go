// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fence   = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?)\s*$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// pages returns the Markdown files of the repository, without build output and downloads.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist" || name == "node_modules") {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		out[path] = fence.ReplaceAllString(string(text), "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("found no Markdown file")
	}
	return out
}

func TestEveryRelativeLinkResolves(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], ":") { // Another site, or mailto.
				continue
			}
			target, anchor, _ := strings.Cut(match[1], "#")
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, match[1])
				continue
			}
			if anchor != "" && filepath.Ext(file) == ".md" && !hasAnchor(all[file], anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", page, match[1], file)
			}
		}
	}
}

// hasAnchor reports whether the page has an explicit anchor of that name, or a heading for which GitHub creates one.
func hasAnchor(text, anchor string) bool {
	if strings.Contains(text, `<a id="`+anchor+`">`) {
		return true
	}
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.ToLower(dropped.ReplaceAllString(match[1], ""))
		if strings.ReplaceAll(name, " ", "-") == anchor {
			return true
		}
	}
	return false
}
