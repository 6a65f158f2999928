// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rekey/rekey/hack/gotest"
	"github.com/rekey/rekey/test/reliability"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, ".", os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "try:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was just called
	}
}

func run(ctx context.Context, root string, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("try", flag.ContinueOnError)
	flags.SetOutput(out)
	class := flags.String("class", "", "run the tests of this class, such as R2; several with commas; empty means all")
	record := flags.Bool("record", false, "record the results in test/reliability/results.json")
	stages := flags.String("stages", "", "run no test; record the results that make test, make crash and the others left in this folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows, err := reliability.Select(root, *class)
	if err != nil {
		return err
	}
	if *stages != "" {
		return recordStages(root, *stages, rows, out)
	}
	environment, err := gotest.Environment(ctx, root)
	if err != nil {
		return err
	}
	var seen reliability.Seen
	if *record {
		if seen, err = gotest.CurrentCommit(ctx, root); err != nil {
			return err
		}
	}
	var tests []reliability.Test
	for _, row := range rows {
		describe(out, row)
		tests = append(tests, row.Tests...)
	}
	begin := time.Now()
	var problems []error
	results := map[gotest.Group]gotest.Result{}
	for _, group := range gotest.Groups(tests) {
		result, err := try(ctx, root, group, environment, out)
		results[group.Group] = result
		problems = append(problems, err)
	}
	if *record && ctx.Err() == nil {
		problems = append(problems, reliability.Record(root, count(rows, results, seen)))
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nall passed, in %s\n", time.Since(begin).Round(time.Second))
	return nil
}

// recordStages records the results of each class whose tests have all run in the stages.
func recordStages(root, folder string, rows []reliability.Row, out io.Writer) error {
	results, seen, err := gotest.Stages(filepath.Join(root, folder))
	if err != nil {
		return err
	}
	all := map[string]reliability.Result{}
	var failed []error
	for _, row := range rows {
		one, missing := combine(row, results, seen)
		switch {
		case row.Absent != "":
			continue
		case len(missing) > 0:
			_, _ = fmt.Fprintf(out, "%s: did not run: %s\n", row.Class, strings.Join(missing, ", "))
			continue
		case one.Good < one.Of:
			failed = append(failed, fmt.Errorf("%s: %d of %d tests passed", row.Class, one.Good, one.Of))
		}
		_, _ = fmt.Fprintf(out, "%s: %d of %d tests passed, seen %s at %s\n", row.Class, one.Good, one.Of, one.Date, one.Commit)
		all[row.Class] = reliability.Result{Tests: &one}
	}
	return errors.Join(append(failed, reliability.Record(root, all))...)
}

// combine combines the results of a row's tests, with the earliest date, and returns the tests that did not run.
func combine(row reliability.Row, results map[string]gotest.Result, seen map[string]reliability.Seen) (reliability.Seen, []string) {
	out := reliability.Seen{Of: len(row.Tests)}
	var missing, commits []string
	for _, test := range row.Tests {
		result, when := results[test.Package], seen[test.Stage()]
		ran := slices.Concat(result.Passed, result.Failed, result.Skipped)
		if when.Commit == "" || !gotest.Selected(test.Run, ran) {
			missing = append(missing, test.Package+" "+test.Run)
			continue
		}
		if result.Shown(test.Run) {
			out.Good++
		}
		if out.Date == "" || when.Date < out.Date {
			out.Date = when.Date
		}
		if !slices.Contains(commits, when.Commit) {
			commits = append(commits, when.Commit)
		}
	}
	slices.Sort(commits)
	out.Commit = strings.Join(commits, " and ")
	return out, missing
}

// describe prints what the tests of a row show.
func describe(out io.Writer, row reliability.Row) {
	_, _ = fmt.Fprintf(out, "%s: %s\n", row.Class, row.Title)
	if row.Absent != "" {
		_, _ = fmt.Fprintf(out, "  nothing to try: %s\n", row.Absent)
	}
	for _, test := range row.Tests {
		_, _ = fmt.Fprintf(out, "  %s %s: %s\n", test.Package, test.Run, test.Shows)
	}
}

// try runs the tests of one group, without cached results.
func try(ctx context.Context, root string, group gotest.Grouped, environment []string, out io.Writer) (gotest.Result, error) {
	_, _ = fmt.Fprintf(out, "\n== %s %s\n", group.Package, group.Select())
	result, err := gotest.Run{Root: root, Package: group.Package, Select: group.Select(), Tags: group.Tags, NoCache: true,
		Timeout: time.Hour, Environment: environment}.Do(ctx)
	if err == nil {
		err = result.Verdict()
	}
	if err == nil {
		err = group.Ran(result.Passed)
	}
	if err != nil {
		_, _ = fmt.Fprintf(out, "%s\nFAILED\n", gotest.Tail(result.Output, 200))
		return result, fmt.Errorf("%s: %w", group.Package, err)
	}
	_, _ = fmt.Fprintf(out, "%d passed, in %s\n", len(result.Passed), result.Took.Round(100*time.Millisecond))
	return result, nil
}

// count returns how many tests of each class passed.
func count(rows []reliability.Row, results map[gotest.Group]gotest.Result, seen reliability.Seen) map[string]reliability.Result {
	out := map[string]reliability.Result{}
	for _, row := range rows {
		if row.Absent != "" {
			continue
		}
		one := seen
		one.Of = len(row.Tests)
		for _, test := range row.Tests {
			if result := results[gotest.GroupOf(test)]; result.Shown(test.Run) {
				one.Good++
			}
		}
		out[row.Class] = reliability.Result{Tests: &one}
	}
	return out
}
