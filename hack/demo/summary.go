// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// summarize prints the table and reports whether every promise was kept.
func summarize(out *printer, promises []promise) bool {
	columns := [3]int{len("Promise"), len("Expected"), len("Seen")}
	for _, p := range promises {
		for i, text := range []string{p.text, p.expected, p.seen} {
			columns[i] = max(columns[i], len(text))
		}
	}
	line := func(a, b, c, d string) {
		out.printf("  %-*s  %-*s  %-*s  %s", columns[0], a, columns[1], b, columns[2], c, d)
	}
	out.heading("The promises")
	line("Promise", "Expected", "Seen", "")
	line(strings.Repeat("-", columns[0]), strings.Repeat("-", columns[1]), strings.Repeat("-", columns[2]), "------")
	kept := true
	for _, p := range promises {
		verdict := out.paint(green, "OK")
		if !p.kept {
			verdict, kept = out.paint(red, "BROKEN"), false
		}
		line(p.text, p.expected, p.seen, verdict)
	}
	return kept
}

// lookAround prints commands that show what was left running.
func lookAround(out *printer, c *cluster) {
	out.heading("Look around (in another terminal)")
	if c.local != nil {
		before, kubectl, _ := strings.Cut(c.kubectl, " ")
		out.printf("  export %s", before)
		out.printf("  alias kubectl=%s", kubectl)
	}
	for _, command := range []string{
		"kubectl get rekey -A",
		"kubectl get events -A --field-selector type=Warning",
		fmt.Sprintf("kubectl describe databasecredential -n %s orders", appNamespace),
		fmt.Sprintf("kubectl get secret -n %s %s -o yaml", appNamespace, loginSecret),
		fmt.Sprintf("kubectl logs -n %s orders --tail 5", appNamespace),
		fmt.Sprintf("kubectl annotate databasecredential -n %s orders rekey.dev/rotate=now-please", appNamespace),
	} {
		out.printf("  %s", command)
	}
	out.printf("\nEverything keeps running until you press Ctrl-C here; then it is removed.")
}
