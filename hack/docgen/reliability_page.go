// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/rekey/rekey/test/prose"
	"github.com/rekey/rekey/test/reliability"
)

const reliabilityHead = `# Reliability

<!-- Written by make docs from test/reliability/rows and the crash matrix. Do not edit. -->

For anyone who runs rekey, or considers it: what you can rely on, and how to see it for yourself. Each row below is one way in
which credentials break, or an invariant. It shows how rekey prevents the failure, the tests that prove it, and the deliberate mistakes
that those tests catch.

## What is promised

- The credential in the published Secret works. A rotation proves the new credential before it publishes it, and retires the old
  one only after the overlap.
- A crash at any moment loses nothing. The next process continues from the ledger. It neither rotates again nor leaves behind a
  login without a record.
- With nothing due, a restart, an upgrade or a new leader writes nothing.
- Two processes that both believe they are the leader cannot undo each other's work.
- A failing rotation leaves the published credential alone, is retried at growing intervals, and is reported long before expiry, in
  conditions, Events and metrics.

Not promised: that an application reads its Secret again. rekey does not watch consumers yet, so the overlap must be longer than
the time they take.

## How it is shown

| level | where | what |
|---|---|---|
| planner | ` + "`internal/rotation`" + ` | every row of the planner's table, and every two rows that could both match; a test notices every row that is deleted from it or swapped |
| simulation | ` + "`internal/lifecycle`" + ` | the real planner and the real driver against a simulated world: crashes before, after and inside every effect, one and two at a time |
| contract | ` + "`" + `sourcetest` + "`" + `, ` + "`" + `databasetest` + "`" + `, ` + "`" + `issuertest` + "`" + ` | one suite for every source, engine and issuer: lost answers, late commits, fences |
| controllers | ` + "`" + `controllers` + "`" + `, ` + "`" + `internal/secretstore` + "`" + ` | a real API server, real PostgreSQL 15 and 18, a clock that the test steps |
| crash | ` + "`" + `test/crash` + "`" + ` | every effect fails in every way, against a real API server and a real PostgreSQL; two of everything, with a real API server and mostly a simulated database; the real binary is killed while real clients log in and shake hands |
| surroundings | ` + "`" + `test/faults` + "`" + ` | servers that hang, drop connections, restart, or come back from a backup; clocks that jump; Secrets edited at every stage. In ` + "`" + `database` + "`" + `, PostgreSQL and the API server are real; in ` + "`" + `kubernetes` + "`" + `, the API server and etcd are real, and the database is simulated (` + "`" + `databasetest` + "`" + `) |
| security | ` + "`" + `test/security` + "`" + ` | searches for planted secrets in all output; tenants; rights |
| fuzzing | ` + "`" + `make fuzz` + "`" + ` | everything that users or peers can write: Secrets, PEM, requests, names, ledgers, whole objects |
| end to end | ` + "`" + `test/e2e` + "`" + ` | the operator as a pod on a real node, with the samples; no row depends on it alone |

## Try a row

Pick a class. In a clone of the repository, with Go installed:

` + "`" + `` + "`" + `` + "`" + `sh
make try CLASS=R2       # runs every test of the class
make mutate CLASS=R2    # breaks the product in each way listed for the class, and expects a test to fail
` + "`" + `` + "`" + `` + "`" + `

Both build the local Kubernetes the first time (a few minutes) and install what the tests need. A break never touches your files:
the compiler reads a changed copy of the source file, and anything that is not compiled, such as a manifest, is changed in a copy.
Join several classes with commas. Without a class, ` + "`" + `make mutate` + "`" + ` applies every break and ` + "`" + `make try` + "`" + ` runs every test; both
take long.

Tests that cover a large space run a seeded sample. Continuous integration and both commands run the short size: it prints its seed, and
a failure shows how to repeat it. ` + "`" + `make test` + "`" + `, which runs on every change, covers less in some places. ` + "`" + `make crash` + "`" + `
sets ` + "`" + `REKEY_SIZE=full` + "`" + ` and covers more: every crash point, every fault of every main life followed by a process that remembers
nothing, the whole simulation, whole days and weeks, and larger samples of the rest.

Continuous integration (` + "`" + `.ci/run` + "`" + `) runs every test below in the stage listed beside it, checks that every break still matches the
source, and applies three random breaks. A recorded run appears below its class, with its date and commit:
` + "`" + `make record` + "`" + ` records the last run of each stage (` + "`" + `make test` + "`" + `, ` + "`" + `make crash` + "`" + `), ` + "`" + `RECORD=1 make mutate CLASS=R2` + "`" + ` records the breaks
that were caught, and ` + "`" + `make docs` + "`" + ` puts them here.
`

// reliabilityPage returns docs/reliability.md: the classes of every part, and the crash matrix.
func reliabilityPage(rowsFolder, matrixFile string, results map[string]reliability.Result) (string, error) {
	rows, err := reliability.Load(rowsFolder)
	if err != nil {
		return "", err
	}
	if missing := reliability.Missing(rows); len(missing) > 0 {
		return "", fmt.Errorf("%s has no rows for %s", rowsFolder, strings.Join(missing, ", "))
	}
	crashes, err := readMatrix(matrixFile)
	if err != nil {
		return "", err
	}
	byClass := map[string]reliability.Row{}
	for _, row := range rows {
		byClass[row.Class] = row
	}
	var out strings.Builder
	out.WriteString(reliabilityHead)
	for _, part := range reliability.Parts {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n", part.Title, prose.Wrap(part.Intro))
		fmt.Fprintf(&out, "| class | %s | %s | see it hold | see it break |\n|---|---|---|---|---|\n", part.Row, part.Guard)
		for _, class := range part.Classes() {
			writeSummary(&out, byClass[class])
		}
		for _, class := range part.Classes() {
			if row := byClass[class]; row.Absent == "" {
				writeRow(&out, row, results[class])
			}
		}
	}
	out.WriteString(matrixHead)
	crashes.write(&out)
	return out.String(), nil
}

const matrixHead = `
## Every step, every fault

A credential's life is a series of effects: requests to the API server, calls to the database. For each life the test
makes every effect fail in every way that it can, continues until everything is quiet, and checks the invariants. ✓ means that all
of them held; · means that this effect cannot fail in this way.

` + "`" + `KUBEBUILDER_ASSETS=$(make assets) REKEY_SIZE=full go test ./test/crash/matrix -timeout 90m -update` + "`" + ` tests everything with a process
that loses its memory, repeats every fifth case with one that keeps it, and writes the table. ` + "`" + `make crash` + "`" + ` tests the main lives of each
kind completely (of the two kinds of authorities, only one), all calls and a sample of the requests of the other lives, and the calls on a
second version of PostgreSQL; ` + "`" + `.ci/run` + "`" + ` tests a sample of everything.

`

// writeSummary writes the line of a class in the table of its part.
func writeSummary(out *strings.Builder, row reliability.Row) {
	if row.Absent != "" {
		fmt.Fprintf(out, "| %s | %s | No test can show it: %s | | |\n", row.Class, capital(line(row.Title)), line(row.Absent))
		return
	}
	fmt.Fprintf(out, "| [%s](#%s) | %s | %s | `make try CLASS=%s` | %s |\n", row.Class, strings.ToLower(row.Class),
		capital(line(row.Title)), line(row.Guard), row.Class, mutateCommand(row))
}

func mutateCommand(row reliability.Row) string {
	if len(row.Breaks) == 0 {
		return ""
	}
	return "`make mutate CLASS=" + row.Class + "`"
}

// writeRow writes the section of a class: its tests, what each shows and where it runs, its breaks, and the last recorded
// results.
func writeRow(out *strings.Builder, row reliability.Row, seen reliability.Result) {
	fmt.Fprintf(out, "\n### %s\n\n%s\n\n", row.Class, prose.Wrap(capital(strings.TrimSuffix(line(row.Title), "."))+". "+line(row.Guard)))
	if results := seen.String(); results != "" {
		fmt.Fprintf(out, "%s\n\n", results)
	}
	out.WriteString("| test | shows | stage |\n|---|---|---|\n")
	for _, test := range row.Tests {
		fmt.Fprintf(out, "| `%s` `%s` | %s | %s |\n", test.Package, plain(test.Run), capital(line(test.Shows)), test.Stage())
	}
	if row.NoBreak != "" {
		fmt.Fprintf(out, "\nNo deliberate mistake: %s\n", line(row.NoBreak))
		return
	}
	out.WriteString("\n| deliberate mistake | in | caught by |\n|---|---|---|\n")
	for _, one := range row.Breaks {
		fmt.Fprintf(out, "| %s | [%s](../%s) | `%s` |\n", capital(line(one.Name)), path.Base(one.File), one.File, plain(one.Run))
	}
}

// plain returns a go test expression as the name that a reader searches for.
func plain(run string) string {
	return strings.NewReplacer("^", "", "$", "", "|", " or ").Replace(run)
}

// line returns a text of a row as a table cell.
func line(text string) string { return cell(strings.TrimSpace(text)) }
