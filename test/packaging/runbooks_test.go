// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// warnings returns the reasons in the groups of conditions.go with a comment that marks them as warnings.
func warnings(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "api/v1alpha1/conditions.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || !strings.HasPrefix(group.Doc.Text(), "Warning reasons") {
			continue
		}
		for _, spec := range group.Specs {
			value, err := strconv.Unquote(spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out[value] = true
		}
	}
	if len(out) < 40 {
		t.Fatalf("found only %d warning reasons", len(out))
	}
	return out
}

func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".md")] = string(data)
	}
	return out
}

func TestEveryWarningReasonHasARunbookAndEveryRunbookAReason(t *testing.T) {
	have, reasons := pages(t), warnings(t)
	for reason := range reasons {
		if have[reason] == "" {
			t.Errorf("docs/runbooks/%s.md is missing", reason)
		}
	}
	named := map[string]bool{"README": true, "restore-from-backup": true}
	for _, alert := range alerts(t) {
		named[strings.TrimSuffix(strings.TrimPrefix(alert.Annotations["runbook_url"], runbooks), ".md")] = true
	}
	for page := range have {
		if !reasons[page] && !named[page] {
			t.Errorf("docs/runbooks/%s.md belongs to no reason and no alert", page)
		}
		if page != "README" && !strings.Contains(have["README"], "("+page+".md)") {
			t.Errorf("the index of the runbooks does not name %s", page)
		}
	}
}

func TestEveryRunbookAnswersTheSameQuestions(t *testing.T) {
	for name, text := range pages(t) {
		if name == "README" || name == "restore-from-backup" {
			continue
		}
		at := 0
		for _, heading := range []string{"# " + name + "\n", "\n**What it means.** ", "\n**Who is affected now.** ", "\n## Find the cause\n\n", "\n## Fix it\n\n", "\n## What rekey does\n\n"} {
			found := strings.Index(text[at:], heading)
			if found < 0 {
				t.Errorf("%s.md lacks %q, or has it in the wrong place", name, strings.TrimSpace(heading))
				continue
			}
			at += found + len(heading) - 1
		}
		if strings.Count(text, "```")%2 != 0 {
			t.Errorf("%s.md has an unclosed code block", name)
		}
	}
}

func TestLinksBetweenRunbooksResolve(t *testing.T) {
	have := pages(t)
	link := regexp.MustCompile(`\]\(([^)]*)\)`)
	for name, text := range have {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			page, anchor, _ := strings.Cut(found[1], "#")
			page = strings.TrimSuffix(page, ".md")
			if page == "" {
				page = name
			}
			target, ok := have[page]
			if !ok {
				t.Errorf("%s.md links to %s, which does not exist", name, found[1])
			}
			if anchor != "" && !anchors(target)[anchor] {
				t.Errorf("%s.md links to %s, which has no such heading", name, found[1])
			}
		}
	}
}

func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
			heading = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(heading, "")
			out[strings.ReplaceAll(heading, " ", "-")] = true
		}
	}
	for _, found := range regexp.MustCompile(`<a id="([^"]+)">`).FindAllStringSubmatch(text, -1) {
		out[found[1]] = true
	}
	return out
}
