// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/rekey/rekey/hack/docgen/conditions"
)

const conditionsHead = `# Conditions, reasons and Events

<!-- Written by make docs from api/v1alpha1/conditions.go. Do not edit. -->

Every object says in its conditions how it is, and in Events what has just become of it. A reason is one word and part of
the API: alerts may rely on it. Messages are for people, and change.
`

// conditionsPage is docs/conditions.md: one table for each block of constants.
func conditionsPage(file string) (string, error) {
	groups, err := conditions.Parse(file)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString(conditionsHead)
	for _, group := range groups {
		fmt.Fprintf(&out, "\n## %s\n\n", group.Title)
		if group.Rest != "" && !group.Warning() { // what is left of a Warning's title speaks to programmers
			fmt.Fprintf(&out, "%s\n\n", group.Rest)
		}
		if group.Warning() {
			out.WriteString("| Reason | Meaning | Runbook |\n|---|---|---|\n")
		} else {
			out.WriteString("| Name | Meaning |\n|---|---|\n")
		}
		for _, word := range group.Words {
			fmt.Fprintf(&out, "| `%s` | %s |", word.Value, capital(cell(word.Meaning)))
			if group.Warning() {
				fmt.Fprintf(&out, " [what to do](runbooks/%s.md) |", word.Value)
			}
			out.WriteString("\n")
		}
	}
	return out.String(), nil
}

// capital begins a text with a capital letter.
func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// cell is a text that may stand in a table of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`).Replace(text)
}
