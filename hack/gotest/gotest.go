// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Run is one invocation of go test.
type Run struct {
	// Root is the root of the repository; Package is relative to it, such as ./controllers.
	Root, Package string
	// Select is the value of -run.
	Select string
	// Tags are build tags, separated by commas.
	Tags string
	// Overlay is a file for go build -overlay; empty for none. It also applies to programs that a test builds.
	Overlay string
	// Timeout limits the tests, without building.
	Timeout time.Duration
	// NoCache runs the tests even if their result is cached.
	NoCache bool
	// Environment is added to this process's environment.
	Environment []string
}

// Result is the result of a Run.
type Result struct {
	// Passed, Failed and Skipped are the full names of tests and subtests.
	Passed, Failed, Skipped []string
	// Build is the compiler's output if the package does not build.
	Build string
	// TimedOut: the tests did not finish in time.
	TimedOut bool
	// Broken: the package failed although none of its tests did, and not by timeout.
	Broken bool
	// Output is what the tests printed.
	Output string
	// Took is how long the tests ran, without building. For a cached result it is the time of the original run.
	Took time.Duration

	tests time.Duration // the sum over all of them
}

// event is a line of go test -json.
type event struct {
	Action      string  `json:"Action"`
	Package     string  `json:"Package"`
	Test        string  `json:"Test"`
	Output      string  `json:"Output"`
	FailedBuild string  `json:"FailedBuild"`
	Elapsed     float64 `json:"Elapsed"`
}

// Do runs go test. An error means that it could not run at all.
func (r Run) Do(ctx context.Context) (Result, error) {
	module, folder, err := r.module()
	if err != nil {
		return Result{}, err
	}
	scratch, err := os.MkdirTemp("", "gotest-")
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := os.Chmod(scratch, 0o755); err != nil { // database servers run as another user
		return Result{}, err
	}
	cmd := exec.CommandContext(ctx, "go", r.arguments(folder)...)
	cmd.Dir = module
	cmd.Env = slices.Concat(os.Environ(), []string{"TMPDIR=" + scratch, "GOTMPDIR=" + scratch}, r.Environment, r.overlaid())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	defer endSession(cmd.Process.Pid)
	result := read(bufio.NewReader(stdout))
	wait := cmd.Wait()
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	if wait != nil && !result.failed() {
		return result, fmt.Errorf("running go test in %s: %w: %s", r.Package, wait, stderr.String())
	}
	return result, nil
}

func (r Run) arguments(folder string) []string {
	// These test binaries are not debugged: without symbols they link faster.
	out := []string{"test", "-json", "-vet=off", "-ldflags=-s -w", "-run", r.Select, "-timeout", r.Timeout.String()}
	if r.Tags != "" {
		out = append(out, "-tags", r.Tags)
	}
	if r.NoCache || r.Overlay != "" { // the cache of go test does not cover the sources of programs that a test builds
		out = append(out, "-count=1")
	}
	return append(out, folder)
}

// overlaid passes the overlay through the environment, so that it also applies to every go build that a test calls.
func (r Run) overlaid() []string {
	if r.Overlay == "" {
		return nil
	}
	return []string{strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")) + " '-overlay=" + r.Overlay + "'"}
}

// module returns the folder of the package's module, and the package relative to it.
func (r Run) module() (module, folder string, err error) {
	root, err := filepath.Abs(r.Root)
	if err != nil {
		return "", "", err
	}
	start := filepath.Join(root, filepath.FromSlash(r.Package))
	for module = start; ; module = filepath.Dir(module) {
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			break
		}
		if module == root || module == filepath.Dir(module) {
			return "", "", fmt.Errorf("%s belongs to no module", r.Package)
		}
	}
	inside, err := filepath.Rel(module, start)
	return module, "./" + filepath.ToSlash(inside), err
}

// read reads the output of go test -json.
func read(lines *bufio.Reader) Result {
	var result Result
	var output, build strings.Builder
	broken := false
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				output.Write(line)
			}
			broken = result.add(e, &output, &build) || broken
		}
		if err != nil {
			result.Output, result.Build = output.String(), build.String()
			result.TimedOut = strings.Contains(result.Output, "panic: test timed out after")
			result.Broken = broken && result.Build == "" && len(result.Failed) == 0 && !result.TimedOut
			return result // the caller checks how go test exited
		}
	}
}

// add adds one event and reports whether it is the failure of the package.
func (r *Result) add(e event, output, build *strings.Builder) bool {
	switch e.Action {
	case "output":
		output.WriteString(e.Output)
	case "build-output":
		build.WriteString(e.Output)
	case "pass", "fail", "skip":
		took := time.Duration(e.Elapsed * float64(time.Second))
		if e.Test == "" {
			r.Took = max(r.Took, took)
			if e.FailedBuild != "" && build.Len() == 0 {
				build.WriteString(e.FailedBuild + " does not build")
			}
			return e.Action == "fail"
		}
		if !strings.Contains(e.Test, "/") {
			r.tests += took
			r.Took = max(r.Took, r.tests)
		}
		r.note(e)
	}
	return false
}

func (r *Result) note(e event) {
	switch e.Action {
	case "pass":
		r.Passed = append(r.Passed, e.Test)
	case "fail":
		r.Failed = append(r.Failed, e.Test)
	case "skip":
		r.Skipped = append(r.Skipped, e.Test)
	}
}

func (r *Result) failed() bool {
	return len(r.Failed) > 0 || r.Build != "" || r.TimedOut || r.Broken
}

// Verdict returns nil if everything that ran passed, otherwise an error with what did not.
func (r *Result) Verdict() error {
	switch {
	case r.Build != "":
		return fmt.Errorf("it does not build:\n%s", strings.TrimSpace(r.Build))
	case len(r.Failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(r.Failed, ", "))
	case r.TimedOut:
		return errors.New("it did not finish in time")
	case r.Broken:
		return fmt.Errorf("the package failed, although none of its tests did:\n%s", Tail(r.Output, 20))
	case len(r.Skipped) > 0:
		return fmt.Errorf("skipped: %s", strings.Join(r.Skipped, ", "))
	}
	return nil
}

// Shown reports whether the tests that the expression selects ran and all passed.
func (r *Result) Shown(expression string) bool {
	return r.Build == "" && !r.TimedOut && !r.Broken && Selected(expression, r.Passed) &&
		!Selected(expression, r.Failed) && !Selected(expression, r.Skipped)
}

// Selected reports whether the expression, including its subtest, selects one of the tests.
func Selected(expression string, tests []string) bool {
	parts := strings.Split(expression, "/")
	for _, test := range tests {
		names := strings.Split(test, "/")
		if len(names) < len(parts) {
			continue
		}
		all := true
		for i, part := range parts {
			matches, err := regexp.MatchString(part, names[i])
			all = all && err == nil && matches
		}
		if all {
			return true
		}
	}
	return false
}

// Tail returns the last lines of a text.
func Tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
