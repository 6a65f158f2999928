// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/rekey/rekey/test/reliability"
)

const reliabilityHead = "# Reliability\n" + `
<!-- Written by make docs from test/reliability/rows and the crash matrix. Do not edit. -->

What you may rely on when you run rekey, and how to see it for yourself. Each row below is one way in which credentials
break, or something that must always hold: how rekey sees to it, the tests that show it, and the deliberate mistakes that those
tests catch.

## What is promised

- The credential in the published Secret works. A rotation first proves the new one, then publishes it, and takes the old
  one away only after the overlap.
- A crash at any moment loses nothing: the next process goes on from what is written down. It neither rotates again nor
  leaves a login behind that nobody knows.
- With nothing due, a restart, an upgrade or a new leader writes nothing.
- Two processes that both believe to be the leader cannot undo each other's work.
- A rotation that fails leaves the published credential alone, is tried ever less often, and is told long before expiry:
  in conditions, Events and metrics.

Not promised: that an application reads its Secret again. Until consumers are watched, the overlap must be longer than the
time they take.

## How it is shown

| level | where | what |
|---|---|---|
| planner | ` + "`internal/rotation`" + ` | the real planner against a pretended world: dies before, after and inside every effect, one and two at a time; every row of its table deleted and swapped, and noticed |
| contract | ` + "`databasetest`, `issuertest`" + ` | one suite for every engine and issuer: lost answers, late commits, fences |
| controllers | ` + "`controllers`, `internal/secretstore`" + ` | a real API server, real PostgreSQL 15 and 18, a clock that the test steps |
| crash | ` + "`test/crash`" + ` | every effect fails in every way, against a real API server and a real PostgreSQL; two of everything, with a real API server, and mostly a pretended database; the real binary killed while real clients log in and shake hands |
| surroundings | ` + "`test/faults`" + ` | servers that hang, break off, restart, or come back from a backup; clocks that jump; Secrets edited at every stage. In ` + "`database`" + ` the database is real, and the API server too; in ` + "`kubernetes`" + ` API server and etcd are real, and the database is a pretended one (` + "`databasetest`" + `) |
| security | ` + "`test/security`" + ` | planted words searched for in everything that comes out; tenants; rights |
| fuzzing | ` + "`make fuzz`" + ` | whatever anybody may write: Secrets, PEM, requests, names, ledgers, whole objects |
| end to end | ` + "`test/e2e`" + ` | the operator as a pod on a real node, with the samples; it backs no row alone |

## Try a row

Pick a class. In a clone of the repository, with Go installed:

` + "```sh\nmake try CLASS=R2       # runs every test of the class\nmake mutate CLASS=R2    # breaks the product in each way of the row, and expects the test to fail\n```" + `

Both build the local Kubernetes the first time (some minutes) and install what the tests need. A break never touches your files:
the compiler is handed another version of the one that it changes, and what is not compiled, such as a manifest, is changed in
a copy. Several classes are joined with commas. ` + "`make mutate`" + ` without a class applies every break, ` + "`make try`" + ` runs every test;
both are long.

Tests of the stage ` + "`crash`" + ` have two sizes. The short one, which continuous integration and both commands run, is a seeded
sample: it prints its seed, and a failure says how to repeat it. ` + "`REKEY_SIZE=full`" + ` in the environment, which is what
` + "`make crash`" + ` runs, is more: every point of death, every fault of every main life after which the process forgets, and larger samples of the rest.

Continuous integration (` + "`.ci/run`" + `) runs every test below, in the stage that stands beside it, holds that every break still
fits the source, and tries three breaks that are drawn by chance. Where a run was recorded, what it saw stands below its class, with the day and the commit:
` + "`make record`" + ` writes down what the last run of each stage (` + "`make test`" + `, ` + "`make crash`" + `) saw, ` + "`RECORD=1 make mutate CLASS=R2`" + ` which breaks were caught,
and ` + "`make docs`" + ` puts it here.
`

// reliabilityPage is docs/reliability.md: the classes of every part, and the crash matrix.
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
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n", part.Title, part.Intro)
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

A life of a credential is a number of effects: requests to the API server, calls to the database. For each life the test
makes every effect fail in every way that it can, goes on until all is quiet, and checks what must hold. ✓: all was well; ·: this
effect cannot fail so. ` + "`KUBEBUILDER_ASSETS=$(make assets) REKEY_SIZE=full go test ./test/crash/matrix -timeout 40m -update`" + ` tries all of it with a process that forgets what it knew, and
every fifth once more with one that lives on, and writes the table; ` + "`make crash`" + ` tries the
main lives of each kind whole (of the two kinds of authorities one), of the others all calls and a sample of the requests, and on a second version of PostgreSQL the
calls; ` + "`.ci/run`" + ` a sample of everything.

`

// writeSummary is the line of a class in the table of its part.
func writeSummary(out *strings.Builder, row reliability.Row) {
	if row.Absent != "" {
		fmt.Fprintf(out, "| %s | %s | No test of the program: %s | | |\n", row.Class, capital(line(row.Title)), line(row.Absent))
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

// writeRow is all that there is to say of a class: its tests with what each shows and where it runs, its breaks, and what
// was seen of them.
func writeRow(out *strings.Builder, row reliability.Row, seen reliability.Result) {
	fmt.Fprintf(out, "\n### %s\n\n%s. %s\n\n", row.Class, capital(strings.TrimSuffix(line(row.Title), ".")), line(row.Guard))
	if said := seen.String(); said != "" {
		fmt.Fprintf(out, "%s\n\n", said)
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

// plain is an expression of go test as the name that a reader looks for.
func plain(run string) string {
	return strings.NewReplacer("^", "", "$", "", "|", " or ").Replace(run)
}

// line is a text of a row in a cell of a table.
func line(text string) string { return cell(strings.TrimSpace(text)) }
