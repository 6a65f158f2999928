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
	class := flags.String("class", "", "run the tests of this class, such as R2; several with commas; all without")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows, err := reliability.Select(root, *class)
	if err != nil {
		return err
	}
	environment, err := gotest.Environment(ctx, root)
	if err != nil {
		return err
	}
	var tests []reliability.Test
	for _, row := range rows {
		describe(out, row)
		tests = append(tests, row.Tests...)
	}
	begin := time.Now()
	var problems []error
	for _, group := range gotest.Groups(tests) {
		problems = append(problems, try(ctx, root, group, environment, out))
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nall passed, in %s\n", time.Since(begin).Round(time.Second))
	return nil
}

// describe prints what the tests of a row are about to show.
func describe(out io.Writer, row reliability.Row) {
	_, _ = fmt.Fprintf(out, "%s: %s\n", row.Class, row.Title)
	if row.Absent != "" {
		_, _ = fmt.Fprintf(out, "  nothing to try: %s\n", row.Absent)
	}
	for _, test := range row.Tests {
		_, _ = fmt.Fprintf(out, "  %s %s: %s\n", test.Package, test.Run, test.Shows)
	}
}

// try runs the tests of one group, each anew.
func try(ctx context.Context, root string, group gotest.Grouped, environment []string, out io.Writer) error {
	_, _ = fmt.Fprintf(out, "\n== %s %s\n", group.Package, group.Select())
	result, err := gotest.Run{Root: root, Package: group.Package, Select: group.Select(), Tags: group.Tags, Again: true,
		Timeout: time.Hour, Environment: environment}.Do(ctx)
	if err == nil {
		err = result.Verdict()
	}
	if err == nil {
		err = group.Ran(result.Passed)
	}
	if err != nil {
		_, _ = fmt.Fprintf(out, "%s\nFAILED\n", gotest.Tail(result.Output, 200))
		return fmt.Errorf("%s: %w", group.Package, err)
	}
	_, _ = fmt.Fprintf(out, "%d passed, in %s\n", len(result.Passed), result.Took.Round(100*time.Millisecond))
	return nil
}
