// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package prose formats the text of generated pages.
package prose

import (
	"strings"
	"unicode/utf8"
)

// Width is the maximum length of a line of prose, in characters.
const Width = 130

// Wrap wraps the long lines of a page that are neither a table nor a picture; only a word that is longer exceeds the width. List
// items continue with an indentation.
func Wrap(page string) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if utf8.RuneCountInString(line) > Width && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "!") {
			lines[i] = wrap(line)
		}
	}
	return strings.Join(lines, "\n")
}

func wrap(line string) string {
	indent := ""
	if strings.HasPrefix(line, "- ") {
		indent = "  "
	}
	var out strings.Builder
	length := 0
	for word := range strings.FieldsSeq(line) {
		size := utf8.RuneCountInString(word)
		switch {
		case length == 0:
		case length+1+size > Width:
			out.WriteString("\n" + indent)
			length = len(indent)
		default:
			out.WriteString(" ")
			length++
		}
		out.WriteString(word)
		length += size
	}
	return out.String()
}
