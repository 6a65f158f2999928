// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustLoad(t *testing.T) *table {
	t.Helper()
	table, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestEveryPhraseRefusesItsHitAndNotItsMiss(t *testing.T) {
	table := mustLoad(t)
	for i := range table.Phrases {
		p := &table.Phrases[i]
		if p.Hit == "" || p.Miss == "" || p.Write == "" {
			t.Errorf("%q needs write, hit and miss", p.Find)
		}
		kind := p.In
		if kind == "" {
			kind = literal
		}
		if len(table.find("x.go", paragraph(kind, 1, []string{p.Hit}), p)) == 0 {
			t.Errorf("%q does not refuse %q", p.Find, p.Hit)
		}
		for _, text := range []string{p.Miss, p.Write} {
			if found := table.find("x.go", paragraph(kind, 1, []string{text}), p); len(found) > 0 {
				t.Errorf("%q refuses %q", p.Find, text)
			}
		}
	}
}

func TestFindings(t *testing.T) {
	for name, tc := range map[string]struct {
		path, text string
		want       []string
	}{
		"a comment of Go, across lines": {
			"a.go", "package a\n\n// F reports what\n// is written\n// down.\nfunc F() {}\n",
			[]string{`a.go:4: "written down": write "recorded, record"`},
		},
		"comments of two declarations are apart": {
			"a.go", "package a\n\nvar x int // it was written\n\n// down there\nvar y int\n", nil,
		},
		"a string of Go": {
			"a.go", "package a\n\nvar x = \"the Secret\\nis not there\"\n",
			[]string{`a.go:3: "is not there": write "not found, does not exist, is missing"`},
		},
		"a raw string keeps its lines": {
			"a.go", "package a\n\nvar x = `\none\nfive octets`\n",
			[]string{`a.go:5: "octets": write "byte"`},
		},
		"a name of Go is split at its capitals": {
			"a.go", "package a\n\nfunc TestTheRemoteEndAnswers() { letGo() }\n",
			[]string{
				`a.go:3: "remote end" in TestTheRemoteEndAnswers: write "remote system, server, issuer"`,
				`a.go:3: "let go" in letGo: write "release, retire, revoke, remove the finalizer"`,
			},
		},
		"British spelling inside a name": {
			"a.go", "package a\n\nvar isHonouredTwice bool\n",
			[]string{`a.go:3: "honoured" in isHonouredTwice: write "honor"`},
		},
		"directives are no prose": {"a.go", "package a\n\n//go:generate gives\nvar x int\n", nil},
		"prose of Markdown, across lines": {
			"a.md", "# Title\n\nIt waits, but\nfor a reason.\n",
			[]string{`a.md:3: "but for": write "except"`},
		},
		"code, quotations and links of Markdown are left": {
			"a.md", "Run `gives` [here](gives.md).\n\n> gives\n\n```\ngives\n```\n", nil,
		},
		"paragraphs and items of Markdown are apart": {"a.md", "- written\n- down\n\nwritten\n\ndown\n", nil},
		"comments and messages of a script": {
			"a.sh", "#!/bin/sh\n# It is made\n# again.\necho whoever\n",
			[]string{`a.sh:2: "made again": write "recreate"`, `a.sh:4: "whoever": write "anyone who"`},
		},
		"a wide line of Markdown": {
			"a.md", strings.Repeat("word ", 33) + "\n",
			[]string{"a.md:1: the line has 165 characters: break it at 160 at most"},
		},
		"wide tables, code and links are left": {
			"a.md", "| " + strings.Repeat("word ", 40) + "|\n\n```\n" + strings.Repeat("word ", 40) + "\n```\n\n[x](https://" + strings.Repeat("x", 200) + ")\n", nil,
		},
		"other files are not read": {"a.sum", "gives", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			if kindOf(tc.path) != unknown {
				for _, f := range mustLoad(t).check(tc.path, []byte(tc.text)) {
					got = append(got, f.String())
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExemptions(t *testing.T) {
	table := mustLoad(t)
	table.Skip = []exemption{{Path: "docs/api.md", Why: "generated"}, {Path: "testdata/fuzz", Why: "inputs"}}
	table.Allow = []exemption{{Path: "a", Text: "rekey.dev/honoured", Why: "a stored name"}}
	for path, want := range map[string]bool{"docs/api.md": true, "docs/api.mdx": false, "x/testdata/fuzz/y.txt": true, "x/testdata/y.txt": false} {
		if got := table.skips(path); got != want {
			t.Errorf("skips(%s) = %v", path, got)
		}
	}
	text := []byte("package a\n\nconst x, y = \"rekey.dev/honoured\", \"honoured\"\n")
	if got := table.check("a/b.go", text); len(got) != 1 {
		t.Errorf("a stored name is allowed, other uses are not: %v", got)
	}
	if got := table.check("b/b.go", text); len(got) != 2 {
		t.Errorf("an allowed name is allowed in its folder only: %v", got)
	}
}

func TestEveryFileIsCheckedUnlessFoldersAreNamed(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"hack/words/a.md": "octet", "docs/b.md": "octet\n\nbut for", "c.bin": "octet"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, tc := range map[string]struct {
		options options
		want    string
		status  int
	}{
		"all":    {want: "docs/b.md:1: \"octet\": write \"byte\"\ndocs/b.md:3: \"but for\": write \"except\"\nhack/words/a.md:1: \"octet\": write \"byte\"\nwords: 2 of 2 files checked, 3 findings\n", status: 1},
		"counts": {options: options{count: true}, want: "    2 docs\n    1 hack/words\nwords: 2 of 2 files checked, 3 findings\n", status: 1},
		"folder": {options: options{only: []string{"docs/"}, count: true}, want: "    2 docs\nwords: 1 of 2 files checked, 2 findings\n", status: 1},
		"none":   {options: options{only: []string{"api"}}, want: "words: 0 of 2 files checked, 0 findings\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, status := run(root, tc.options)
			if diff := cmp.Diff(tc.want, got); diff != "" || status != tc.status {
				t.Errorf("status %d (-want +got):\n%s", status, diff)
			}
		})
	}
}
