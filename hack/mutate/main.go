// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
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
	class := flags.String("class", "", "apply only the breaks of this class, such as R2; several with commas")
	name := flags.String("name", "", "apply only the breaks with these words in their names")
	sample := flags.Int("sample", 0, "apply only this many breaks, chosen by the seed; 0 means all")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "seed of -sample")
	record := flags.Bool("record", false, "record the results in test/reliability/results.json")
	list := flags.Bool("list", false, "print the breaks without applying them")
	why := flags.Bool("why", false, "print the guard's output for each break")
	parallel := flags.Int("parallel", 2, "number of breaks that are tested at a time")
	patience := flags.Duration("patience", time.Minute, "minimum time for a test, to which three times its time without the break is added; after that it counts as failed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mutants, err := choose(root, *class, *name)
	if err != nil {
		return err
	}
	if *sample > 0 {
		mutants = draw(mutants, *sample, *seed)
		_, _ = fmt.Fprintf(out, "%d breaks; to apply the same ones again: go run ./hack/mutate -sample %d -seed %d\n", len(mutants), *sample, *seed)
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
	if *record && (*name != "" || *sample > 0) {
		return errors.New("-record needs all breaks of a class: it cannot be combined with -name or -sample")
	}
	session := session{root: root, parallel: *parallel, environment: environment, out: out, patience: *patience, why: *why}
	if !*record {
		_, err := session.run(ctx, mutants)
		return err
	}
	seen, err := gotest.CurrentCommit(ctx, root)
	if err != nil {
		return err
	}
	outcomes, err := session.run(ctx, mutants)
	if outcomes == nil { // it was interrupted
		return err
	}
	return errors.Join(err, reliability.Record(root, count(mutants, outcomes, seen)))
}

// count returns how many breaks of each class were caught.
func count(mutants []mutant, outcomes []outcome, seen reliability.Seen) map[string]reliability.Result {
	out := map[string]reliability.Result{}
	for i, m := range mutants {
		if out[m.class].Breaks == nil {
			one := seen
			out[m.class] = reliability.Result{Breaks: &one}
		}
		out[m.class].Breaks.Of++
		if outcomes[i].verdict == caught {
			out[m.class].Breaks.Good++
		}
	}
	return out
}

// draw returns a random sample of the breaks in their order.
func draw(all []mutant, many int, seed uint64) []mutant {
	random := rand.New(rand.NewPCG(seed, 1))
	chosen := random.Perm(len(all))[:min(many, len(all))]
	slices.Sort(chosen)
	out := make([]mutant, 0, len(chosen))
	for _, i := range chosen {
		out = append(out, all[i])
	}
	return out
}

// mutant is a break of a class.
type mutant struct {
	reliability.Break
	class string
}

// choose returns the breaks of the classes with the words in their names.
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
		return nil, fmt.Errorf("no break found for class %q and name %q", classes, words)
	}
	return out, nil
}
