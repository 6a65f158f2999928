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

For anyone who reads a rekey object's conditions or Events, or alerts on them: every type and reason, with its meaning. Conditions
describe an object's current state, Events its changes. A reason is one word and part of the API, so alerts may rely on it. Messages
are for people and may change.
`

// conditionsPage returns docs/conditions.md: one table for each block of constants.
func conditionsPage(file string) (string, error) {
	groups, err := conditions.Parse(file)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString(conditionsHead)
	for _, group := range groups {
		fmt.Fprintf(&out, "\n## %s\n\n", group.Title)
		if group.Rest != "" && !group.Warning() { // the rest of a Warning's comment is for developers
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

// capital returns the text with a capital first letter.
func capital(text string) string {
	if text == "" {
		return ""
	}
	if strings.HasPrefix(text, "rekey") { // the name has no capital
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// cell returns the text, escaped for a Markdown table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`).Replace(text)
}
