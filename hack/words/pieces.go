// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/scanner"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// The kinds of files, by how they are read.
const (
	unknown = iota
	golang
	markdown
	lines
)

// The kinds of pieces, as phrase.In names them.
const (
	comment = "comment"
	literal = "text"
	name    = "name"
)

// kindOf returns how a file is read.
func kindOf(file string) int {
	base := path.Base(file)
	switch path.Ext(base) {
	case ".go":
		return golang
	case ".md":
		return markdown
	case ".yaml", ".yml", ".sh", ".golden", ".json", ".txt":
		return lines
	}
	switch {
	case base == "Makefile", base == "Dockerfile", file == ".ci/run":
		return lines
	}
	return unknown
}

// piece is text in which phrases are looked for: a comment, a string, a name split into words, a paragraph. Line breaks are
// spaces, so that a phrase is found across them.
type piece struct {
	kind  string
	text  string
	name  string // the name as it is written, for a name
	line  int    // of its beginning
	marks []int  // where in text the lines after the first begin
}

// lineAt returns the line of an offset in the text.
func (p *piece) lineAt(offset int) int {
	line := p.line
	for _, mark := range p.marks {
		if offset >= mark {
			line++
		}
	}
	return line
}

// around returns the match with its surroundings: the name it is in, or the lines it is on.
func (p *piece) around(at []int) string {
	if p.name != "" {
		return p.name
	}
	from, to := 0, len(p.text)
	for _, mark := range p.marks {
		if mark <= at[0] {
			from = mark
		}
		if mark >= at[1] {
			to = mark
			break
		}
	}
	return p.text[from:to]
}

// pieces splits a file.
func pieces(file, text string) []piece {
	switch kindOf(file) {
	case golang:
		return goPieces(text)
	case markdown:
		return markdownPieces(text)
	default:
		return linePieces(text)
	}
}

// goPieces returns the comments, strings and names of a Go file. Comments on consecutive lines are one piece.
func goPieces(text string) []piece {
	var (
		found  []piece
		s      scanner.Scanner
		files  = token.NewFileSet()
		handle = files.AddFile("", files.Base(), len(text))
		next   = -1 // the line on which a comment continues the one before
	)
	s.Init(handle, []byte(text), nil, scanner.ScanComments)
	for {
		position, kind, value := s.Scan()
		line := handle.Line(position)
		switch kind {
		case token.EOF:
			return found
		case token.COMMENT:
			found = addComment(found, line, value, next == line)
			next = line + strings.Count(value, "\n") + 1
			continue
		case token.STRING:
			found = append(found, stringPiece(line, value))
		case token.IDENT:
			found = append(found, piece{kind: name, text: splitName(value), name: value, line: line})
		}
		if kind != token.SEMICOLON {
			next = -1
		}
	}
}

// addComment adds a comment to the pieces, or to the last one if it continues that. Comments for tools are left out.
func addComment(found []piece, line int, value string, continues bool) []piece {
	value = strings.TrimSpace(strings.TrimPrefix(value, "//"))
	switch {
	case isCode(value):
		return append(found, piece{kind: comment, line: line})
	case continues && len(found) > 0:
		found[len(found)-1].add(value)
		return found
	}
	return append(found, paragraph(comment, line, strings.Split(value, "\n")))
}

// stringPiece returns a string of Go. Only a raw string spans lines of the file.
func stringPiece(line int, value string) piece {
	if plain, err := strconv.Unquote(value); err == nil && !strings.HasPrefix(value, "`") {
		value = strings.ReplaceAll(plain, "\n", " ")
	}
	return paragraph(literal, line, strings.Split(value, "\n"))
}

// isCode reports whether a comment is for a tool: a directive, a marker of kubebuilder.
func isCode(comment string) bool {
	return strings.HasPrefix(comment, "go:") || strings.HasPrefix(comment, "+kubebuilder") && !strings.Contains(comment, "message=")
}

// add appends a line to a piece.
func (p *piece) add(line string) {
	p.text += " "
	p.marks = append(p.marks, len(p.text))
	p.text += line
}

// paragraph joins lines to one piece.
func paragraph(kind string, line int, rows []string) piece {
	p := piece{kind: kind, line: line, text: strings.TrimSpace(rows[0])}
	for _, row := range rows[1:] {
		p.add(strings.TrimSpace(row))
	}
	return p
}

// splitName returns the words of a name, in lower case with spaces: notFound is "not found", HTTPServer is "http server".
func splitName(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		starts := unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if r == '_' || starts {
			out.WriteByte(' ')
		}
		if r != '_' {
			out.WriteRune(unicode.ToLower(r))
		}
	}
	return out.String()
}

var (
	codeSpan   = regexp.MustCompile("``[^`].*?``|`[^`]+`")
	linkTarget = regexp.MustCompile(`\]\([^)]*\)|<https?://[^>]*>|https?://\S+`)
	listItem   = regexp.MustCompile(`^([-*+]|\d+\.|\|)\s`)
)

// markdownPieces returns the paragraphs of a page: no code, no quotations, no targets of links.
func markdownPieces(text string) []piece {
	var (
		found  []piece
		fenced bool
		open   bool
	)
	for i, row := range strings.Split(text, "\n") {
		row = strings.TrimSpace(row)
		if isFence(row) {
			fenced = !fenced
			open = false
			continue
		}
		if fenced || row == "" || strings.HasPrefix(row, ">") {
			open = false
			continue
		}
		row = linkTarget.ReplaceAllString(row, "]")
		if open && !listItem.MatchString(row) && !strings.HasPrefix(row, "#") {
			found[len(found)-1].add(row)
			continue
		}
		found = append(found, paragraph(literal, i+1, []string{row}))
		open = !strings.HasPrefix(row, "#")
	}
	for i := range found {
		found[i].blank(codeSpan)
	}
	return found
}

// blank replaces what matches by dots of the same length.
func (p *piece) blank(what *regexp.Regexp) {
	p.text = what.ReplaceAllStringFunc(p.text, func(span string) string { return strings.Repeat(".", len(span)) })
}

// linePieces returns the text of a file of lines. Comments that begin with # and continue on the next line are one piece.
func linePieces(text string) []piece {
	var found []piece
	open := false
	for i, row := range strings.Split(text, "\n") {
		row = strings.TrimSpace(row)
		rest, isComment := strings.CutPrefix(row, "#")
		if isComment {
			rest = strings.TrimSpace(rest)
		}
		if open && isComment {
			found[len(found)-1].add(rest)
			continue
		}
		kind := literal
		if isComment {
			kind = comment
		}
		found = append(found, paragraph(kind, i+1, []string{rest}))
		open = isComment
	}
	return found
}
