// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// widest is how many characters a line of Markdown may have, outside tables, code and links.
const widest = 160

// finding is a phrase that was found, or a line that is too long.
type finding struct {
	path    string
	line    int
	message string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.path, f.line, f.message) }

// check returns what is wrong with a file, in the order of its lines.
func (t *table) check(path string, text []byte) []finding {
	var findings []finding
	for _, piece := range pieces(path, string(text)) {
		for i := range t.Phrases {
			findings = append(findings, t.find(path, piece, &t.Phrases[i])...)
		}
	}
	if kindOf(path) == markdown {
		findings = append(findings, wideLines(path, string(text))...)
	}
	sort.SliceStable(findings, func(i, j int) bool { return findings[i].line < findings[j].line })
	return findings
}

// find returns where a piece has the phrase.
func (t *table) find(path string, piece piece, p *phrase) []finding {
	if p.In != "" && p.In != piece.kind {
		return nil
	}
	var findings []finding
	for _, at := range p.find.FindAllStringIndex(piece.text, -1) {
		if p.excepted(piece.text, at) || t.allows(path, piece.around(at)) {
			continue
		}
		message := fmt.Sprintf("%q: write %q", piece.text[at[0]:at[1]], p.Write)
		if piece.name != "" {
			message = fmt.Sprintf("%q in %s: write %q", piece.text[at[0]:at[1]], piece.name, p.Write)
		}
		findings = append(findings, finding{path, piece.lineAt(at[0]), message})
	}
	return findings
}

// excepted reports whether one of the exceptions overlaps the match.
func (p *phrase) excepted(text string, at []int) bool {
	for _, except := range p.except {
		for _, place := range except.FindAllStringIndex(text, -1) {
			if place[0] < at[1] && at[0] < place[1] {
				return true
			}
		}
	}
	return false
}

// wideLines returns the lines of Markdown that are too long, where a line break could make them shorter.
func wideLines(path, text string) []finding {
	var findings []finding
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if isFence(trimmed) {
			fenced = !fenced
		}
		if fenced || strings.HasPrefix(trimmed, "|") {
			continue
		}
		if n := utf8.RuneCountInString(linkTarget.ReplaceAllString(line, "]")); n > widest {
			findings = append(findings, finding{path, i + 1, fmt.Sprintf("the line has %d characters: break it at %d at most", n, widest)})
		}
	}
	return findings
}

func isFence(trimmed string) bool {
	return strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~")
}
