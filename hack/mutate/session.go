// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rekey/rekey/hack/gotest"
	"github.com/rekey/rekey/test/reliability"
)

// The verdicts on a break.
const (
	caught   = "caught"
	survived = "SURVIVED"
	broken   = "ERROR" // it proves nothing: it does not compile, its guard fails without it, or no test ran
)

// session applies breaks and runs their guards.
type session struct {
	root        string
	parallel    int
	environment []string
	out         io.Writer
	// patience is the minimum time for the tests of a broken product; a test that hangs counts as failed.
	patience time.Duration
	// why prints the end of the guard's output for each break.
	why bool

	mu sync.Mutex
}

// outcome is the verdict on one break, with the time that building and testing took.
type outcome struct {
	verdict, detail string
	said            string // the guard's output
	took            time.Duration
}

// run applies every break whose guard passes without it. It returns no outcomes if it was interrupted.
func (s *session) run(ctx context.Context, mutants []mutant) ([]outcome, error) {
	begin := time.Now()
	guards := s.unbroken(ctx, mutants)
	s.sayf("%d breaks; their guards first ran without them (%s)\n\n", len(mutants), time.Since(begin).Round(time.Second))
	outcomes := make([]outcome, len(mutants))
	s.each(ctx, len(mutants), func(i int) {
		outcomes[i] = s.try(ctx, mutants[i], guards[gotest.GroupOf(mutants[i].Guard())])
		s.sayf("%-8s %-4s %s (%s %s, %.0f s)\n", outcomes[i].verdict, mutants[i].class, mutants[i].Name, mutants[i].Package, mutants[i].Run, outcomes[i].took.Seconds())
		if s.why {
			s.sayf("%s\n", indent(outcomes[i].said))
		}
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return outcomes, s.summary(mutants, outcomes, time.Since(begin))
}

func (s *session) sayf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = fmt.Fprintf(s.out, format, args...)
}

// each calls do for 0 to n-1, several at a time.
func (s *session) each(ctx context.Context, n int, do func(int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(1, s.parallel) {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
}

// guard is the result of a group of guards without any break.
type guard struct {
	took time.Duration
	err  error
}

// unbroken runs the guards on the unchanged product, those of a package together.
func (s *session) unbroken(ctx context.Context, mutants []mutant) map[gotest.Group]guard {
	var tests []reliability.Test
	for _, m := range mutants {
		tests = append(tests, m.Guard())
	}
	groups := gotest.Groups(tests)
	found := make([]guard, len(groups))
	s.each(ctx, len(groups), func(i int) { found[i] = s.passes(ctx, groups[i]) })
	out := map[gotest.Group]guard{}
	for i, group := range groups {
		out[group.Group] = found[i]
	}
	return out
}

func (s *session) passes(ctx context.Context, group gotest.Grouped) guard {
	result, err := gotest.Run{Root: s.root, Package: group.Package, Select: group.Select(), Tags: group.Tags,
		Timeout: 20 * time.Minute, Environment: s.environment}.Do(ctx)
	if err == nil {
		err = result.Verdict()
	}
	if err == nil {
		err = group.Ran(result.Passed)
	}
	if err != nil {
		err = fmt.Errorf("without any break, in %s: %w\n%s", group.Package, err, gotest.Tail(result.Output, 40))
	}
	return guard{result.Took, err}
}

// try applies one break and runs its guard.
func (s *session) try(ctx context.Context, m mutant, without guard) outcome {
	if without.err != nil { // a guard that fails anyway catches nothing
		return outcome{verdict: broken, detail: without.err.Error()}
	}
	begin := time.Now()
	result, err := s.broken(ctx, m, s.patience+3*without.took)
	out := outcome{took: time.Since(begin), said: gotest.Tail(result.Output, 25)}
	out.verdict, out.detail = judge(result, err)
	return out
}

func (s *session) broken(ctx context.Context, m mutant, timeout time.Duration) (gotest.Result, error) {
	folder, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return gotest.Result{}, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	run := gotest.Run{Root: s.root, Package: m.Package, Select: m.Run, Tags: m.Tags, Timeout: timeout, Environment: s.environment}
	if filepath.Ext(m.File) == ".go" {
		run.Overlay, err = overlay(s.root, folder, m.Break)
	} else {
		run.Root, err = folder, replica(s.root, folder, m.Break)
	}
	if err != nil {
		return gotest.Result{}, err
	}
	return run.Do(ctx)
}

// judge returns the verdict for a run of the guard on the broken product. Only a test that failed or timed out caught it.
func judge(result gotest.Result, err error) (verdict, detail string) {
	switch {
	case err != nil:
		return broken, err.Error()
	case result.Build != "", result.Broken:
		return broken, result.Verdict().Error()
	case len(result.Failed) > 0, result.TimedOut:
		return caught, ""
	case len(result.Passed) == 0:
		return broken, "no test ran"
	}
	return survived, ""
}

// summary prints the breaks that were not caught, and returns an error if there are any.
func (s *session) summary(mutants []mutant, outcomes []outcome, took time.Duration) error {
	counts := map[string]int{}
	for i, m := range mutants {
		counts[outcomes[i].verdict]++
		if outcomes[i].verdict == caught {
			continue
		}
		s.sayf("\n%s: %s, %q in %s\n", outcomes[i].verdict, m.class, m.Name, m.File)
		if outcomes[i].detail != "" {
			s.sayf("%s\n", indent(outcomes[i].detail))
			continue
		}
		s.sayf("    %s %s passes although the product has\n%s\n    instead of\n%s\n", m.Package, m.Run, indent(m.Replace), indent(m.Find))
	}
	s.sayf("\n%d caught, %d survived, %d without a verdict, in %s\n", counts[caught], counts[survived], counts[broken], took.Round(time.Second))
	if counts[survived]+counts[broken] > 0 {
		return fmt.Errorf("%d of %d breaks were not caught", counts[survived]+counts[broken], len(mutants))
	}
	return nil
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}

// matches reports whether the name contains all words.
func matches(name, words string) bool {
	for word := range strings.FieldsSeq(words) {
		if !strings.Contains(name, word) {
			return false
		}
	}
	return true
}
