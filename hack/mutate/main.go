// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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
	err := run(ctx, ".", os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was just called
	}
}

func run(ctx context.Context, root string, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.SetOutput(out)
	class := flags.String("class", "", "break only what this class names, such as R2; several with commas")
	name := flags.String("name", "", "break only what has these words in its name")
	list := flags.Bool("list", false, "print the breaks, and do nothing")
	parallel := flags.Int("parallel", 2, "how many breaks are tried at a time")
	patience := flags.Duration("patience", time.Minute, "how long a test may take at least, and three times what it takes without the break; then it counts as failed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mutants, err := choose(root, *class, *name)
	if err != nil {
		return err
	}
	if *list {
		for _, m := range mutants {
			_, _ = fmt.Fprintf(out, "%-4s %s: %s %s\n", m.class, m.Name, m.Package, m.Run)
		}
		return nil
	}
	environment, err := gotest.Environment(ctx, root)
	if err != nil {
		return err
	}
	session := session{root: root, parallel: *parallel, environment: environment, out: out, patience: *patience}
	return session.run(ctx, mutants)
}

// mutant is a break of a class.
type mutant struct {
	reliability.Break
	class string
}

// choose gives the breaks of the classes with the words in their name.
func choose(root, classes, words string) ([]mutant, error) {
	rows, err := reliability.Select(root, classes)
	if err != nil {
		return nil, err
	}
	var out []mutant
	for _, row := range rows {
		for _, one := range row.Breaks {
			if matches(one.Name, words) {
				out = append(out, mutant{Break: one, class: row.Class})
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no break for class %q and name %q", classes, words)
	}
	return out, nil
}
