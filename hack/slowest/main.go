// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// most is how many tests are printed.
const most = 10

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "slowest:", err)
		os.Exit(1)
	}
}

// run prints the slowest tests of all files together.
func run(files []string, out io.Writer) error {
	times := map[name]float64{}
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = errors.Join(read(file, times), file.Close())
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	for _, t := range slowest(times) {
		if _, err := fmt.Fprintf(out, "%7.1fs  %s %s\n", t.seconds, t.of.pkg, t.of.test); err != nil {
			return err
		}
	}
	return nil
}

// name identifies a test or subtest.
type name struct{ pkg, test string }

// read adds the time of every test that has finished.
func read(from io.Reader, times map[name]float64) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		var event struct {
			Action  string  `json:"Action"`
			Package string  `json:"Package"`
			Test    string  `json:"Test"`
			Elapsed float64 `json:"Elapsed"`
		}
		// A killed run can leave an incomplete line.
		if json.Unmarshal(line, &event) == nil && event.Test != "" && slices.Contains([]string{"pass", "fail", "skip"}, event.Action) {
			times[name{event.Package, event.Test}] += event.Elapsed
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// timed is a test with its time.
type timed struct {
	of      name
	seconds float64
}

// slowest returns the slowest top-level tests, the slowest one first.
func slowest(times map[name]float64) []timed {
	below := map[name][]name{}
	var top []name
	for n := range times {
		if at := strings.LastIndex(n.test, "/"); at >= 0 {
			parent := name{n.pkg, n.test[:at]}
			below[parent] = append(below[parent], n)
		} else {
			top = append(top, n)
		}
	}
	// Go does not count the time of parallel subtests as time of their parent.
	var whole func(n name) float64
	whole = func(n name) float64 {
		sum := 0.0
		for _, subtest := range below[n] {
			sum += whole(subtest)
		}
		return max(times[n], sum)
	}
	out := make([]timed, 0, len(top))
	for _, n := range top {
		out = append(out, timed{n, whole(n)})
	}
	slices.SortFunc(out, func(a, b timed) int {
		return cmp.Or(cmp.Compare(b.seconds, a.seconds), cmp.Compare(a.of.pkg, b.of.pkg), cmp.Compare(a.of.test, b.of.test))
	})
	return out[:min(len(out), most)]
}
